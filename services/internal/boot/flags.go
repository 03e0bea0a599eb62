package boot

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// flags are a service's command line. The standard library reads them, because
// what finds methods by their names at run time, as richer parsers do, has the
// linker keep every method of every package: a quarter of the program.
type flags struct {
	config  string
	nats    string
	health  string
	check   bool
	version bool

	// probe is the command that asks a running service how it is.
	probe bool
}

// errHelp is returned where the help was asked for and written.
var errHelp = errors.New("help was asked for")

// parseFlags reads args. What is asked for is written to out.
func parseFlags(name string, args []string, out io.Writer) (flags, error) {
	var f flags
	if len(args) > 0 && args[0] == "health" {
		f.probe, args = true, args[1:]
	}
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard) // an error is told once, by whoever gets it
	set.StringVar(&f.config, "config", cmp.Or(os.Getenv("TERCEL_CONFIG"), "tercel.yaml"), "")
	set.StringVar(&f.config, "c", cmp.Or(os.Getenv("TERCEL_CONFIG"), "tercel.yaml"), "")
	set.StringVar(&f.nats, "nats", os.Getenv("TERCEL_NATS"), "")
	set.StringVar(&f.health, "health", os.Getenv("TERCEL_HEALTH"), "")
	set.BoolVar(&f.check, "check", false, "")
	set.BoolVar(&f.version, "version", false, "")
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(out, strings.ReplaceAll(usage, "SERVICE", "%[1]s"), name)
		return flags{}, errHelp
	case err != nil:
		return flags{}, err
	case set.NArg() > 0:
		return flags{}, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	return f, nil
}

const usage = `Usage: SERVICE [flags]
       SERVICE health [flags]

The SERVICE of a Tercel pipeline. It runs until SIGTERM, then finishes what is in hand.
With health it only asks the one that runs on this machine whether it is ready: exit code 0 if so,
else 1 and why not.

Flags:
  -c, --config FILE       The pipeline file. Defaults to tercel.yaml ($TERCEL_CONFIG).
      --nats URL          Address of the NATS servers, instead of the file's nats.url ($TERCEL_NATS).
      --health HOST:PORT  Address of health and metrics, instead of the file's telemetry.listen
                          ($TERCEL_HEALTH).
      --check             Check flags and pipeline file, and exit.
      --version           Print the version and exit.
  -h, --help              Show this and exit.
`
