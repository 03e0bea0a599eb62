package boot_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/services/internal/boot"
)

const pipelineFile = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: ["env:ORDERS_SECRET"]
    event: {type: body.kind}
`

// writeFile writes a pipeline file and returns its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tercel.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// command runs a command line that ends by itself.
func command(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = boot.Command(t.Context(), "test", args, &o, &e, func(boot.Env) (boot.Service, error) {
		t.Error("a service was built")
		return &fake{}, nil
	})
	return code, o.String(), e.String()
}

func TestTheCommandLine(t *testing.T) {
	t.Setenv("ORDERS_SECRET", "a secret of enough length")
	good, bad := writeFile(t, pipelineFile), writeFile(t, pipelineFile+"destinatons: {}\n")
	for name, tt := range map[string]struct {
		args      []string
		code      int
		out, errs string
	}{
		"help":                    {[]string{"--help"}, boot.OK, "test health [flags]", ""},
		"help of health":          {[]string{"health", "-h"}, boot.OK, "$TERCEL_HEALTH", ""},
		"the version":             {[]string{"--version"}, boot.OK, boot.Version(), ""},
		"a good file":             {[]string{"--check", "--config", good}, boot.OK, "", ""},
		"a good file, in short":   {[]string{"--check", "-c", good}, boot.OK, "", ""},
		"a file with a fault":     {[]string{"--check", "-c", bad}, boot.Failed, "", `did you mean "destinations"`},
		"no file":                 {[]string{"--check", "-c", good + "x"}, boot.Failed, "", "no such file"},
		"an unknown flag":         {[]string{"--chek"}, boot.Usage, "", `Run "test --help"`},
		"an argument":             {[]string{"--check", "up"}, boot.Usage, "", `unexpected argument "up"`},
		"health of nothing":       {[]string{"health", "--health", unused(t)}, boot.Failed, "", "not reached"},
		"health of no address":    {[]string{"health", "--health", "9464"}, boot.Failed, "", "missing port"},
		"health without the file": {[]string{"health", "-c", good + "x"}, boot.Failed, "", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := command(t, tt.args...)
			if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.errs) || (errs == "") != (tt.errs == "") {
				t.Errorf("exit code %d, output %q, errors %q; want %d, %q, %q", code, out, errs, tt.code, tt.out, tt.errs)
			}
		})
	}
}

// unused is an address that nobody listens on.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The environment stands in for flags, and flags come first: what a container is
// given.
func TestFlagsComeFromTheEnvironment(t *testing.T) {
	t.Setenv("ORDERS_SECRET", "a secret of enough length")
	t.Setenv("TERCEL_CONFIG", writeFile(t, pipelineFile))
	if code, _, errs := command(t, "--check"); code != boot.OK {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, _, errs := command(t, "--check", "-c", "another.yaml"); code != boot.Failed || !strings.Contains(errs, "another.yaml") {
		t.Errorf("exit code %d, %q; want the flag's file", code, errs)
	}
	addr := unused(t)
	t.Setenv("TERCEL_HEALTH", addr)
	if _, _, errs := command(t, "health"); !strings.Contains(errs, addr) {
		t.Errorf("%q; want the environment's address %s", errs, addr)
	}
}

// The health command says what the service itself says, wherever it listens.
func TestHealthAsksTheServiceThatRuns(t *testing.T) {
	srv := natstest.Start(t, false)
	t.Setenv("ORDERS_SECRET", "a secret of enough length")
	_, port, err := net.SplitHostPort(unused(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, listen := range map[string]string{"everywhere": ":" + port, "on one address": "127.0.0.1:" + port} {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, pipelineFile+"telemetry: {listen: \""+listen+"\"}\n")
			svc := &fake{}
			ctx, stop := context.WithCancel(t.Context())
			log, ended := &lines{}, make(chan int, 1)
			go func() {
				ended <- boot.Command(ctx, "test", []string{"-c", file, "--nats", srv.URL()}, log, log, func(boot.Env) (boot.Service, error) {
					return svc, nil
				})
			}()
			eventually(t, "healthy", func() bool { code, _, _ := command(t, "health", "-c", file); return code == boot.OK })
			svc.unwell.Store(true)
			if code, _, errs := command(t, "health", "-c", file); code != boot.Failed || !strings.Contains(errs, "stream is away") {
				t.Errorf("health of an unwell service: exit code %d, %q", code, errs)
			}
			stop()
			if code := <-ended; code != boot.OK || !svc.stopped.Load() {
				t.Errorf("exit code %d, stopped %t\n%s", code, svc.stopped.Load(), log)
			}
		})
	}
}
