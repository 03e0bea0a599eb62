// Command tercel is the whole pipeline in one process, and the command line to
// look into a running one.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/internal/boot"
	"github.com/tercelhq/tercel/services/internal/fileschema"
)

// cli is the command line.
type cli struct {
	Demo        demoCmd        `cmd:"" help:"Run the whole pipeline against a simulated provider and count what was lost."`
	Up          upCmd          `cmd:"" help:"Run all services in one process, with an embedded JetStream."`
	Simulate    simulateCmd    `cmd:"" help:"Be a provider for a pipeline that runs elsewhere."`
	Init        initCmd        `cmd:"" help:"Write a commented tercel.yaml."`
	Check       checkCmd       `cmd:"" help:"Check a pipeline file and list every fault."`
	Setup       setupCmd       `cmd:"" help:"Make streams, buckets and the teams' consumers on NATS servers."`
	Keys        keysCmd        `cmd:"" help:"Make the keys of NATS users and of encrypted streams."`
	Verify      verifyCmd      `cmd:"" help:"Say whether a captured request would be accepted, and why not."`
	Try         tryCmd         `cmd:"" help:"Show what a sample webhook becomes at each step."`
	Test        testCmd        `cmd:"" help:"Run the tests beside a pipeline file."`
	Listen      listenCmd      `cmd:"" help:"Print enriched events as they come."`
	Event       eventCmd       `cmd:"" help:"Look at events and replay them."`
	DLQ         dlqCmd         `cmd:"" name:"dlq" help:"Look at dead letters, edit, replay and discard them."`
	Reconcile   reconcileCmd   `cmd:"" help:"Reconcile a resource now, or see how far it has come."`
	Backfill    backfillCmd    `cmd:"" help:"Compare and repair the records of a time, or all of them, beside the schedule."`
	Source      sourceCmd      `cmd:"" help:"List, pause and resume sources."`
	Destination destinationCmd `cmd:"" help:"List destinations, pause and resume deliveries to them."`
	Accounts    accountsCmd    `cmd:"" help:"Add, list and remove accounts of a source."`
	Contract    contractCmd    `cmd:"" help:"Print what other programs may rely on."`
	Health      healthCmd      `cmd:"" help:"Say whether the pipeline on this machine is ready."`
	Status      statusCmd      `cmd:"" help:"Show streams, lag and the last reconciliations."`
	Audit       auditCmd       `cmd:"" help:"See what operators did."`
	Completion  completionCmd  `cmd:"" help:"Print what makes a shell complete command lines."`
	Complete    completeCmd    `cmd:"" hidden:"" help:"Print what may follow, for a shell."`

	Version kong.VersionFlag `help:"Print the version and exit."`
}

// app is what commands share.
type app struct {
	ctx context.Context
	in  io.Reader
	out io.Writer // results
	err io.Writer // progress and errors

	command string // such as "tercel dlq replay"
	json    bool   // programs read what it prints
	words   *kong.Application
}

// exitCode ends a command with a code and a message that may be empty.
type exitCode struct {
	code    int
	message string
}

func (e exitCode) Error() string { return e.message }

// failed ends a command whose answer is no: its output has said why.
func failed() error { return exitCode{code: boot.Failed} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(run(&app{ctx: ctx, in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Args[1:]))
}

// run runs one command line and returns the exit code.
func run(a *app, args []string) (code int) {
	var c cli
	parser, err := kong.New(&c, kong.Name("tercel"), kong.Vars{
		"version": boot.Version(), "presets": strings.Join(provider.PresetNames(), ", "),
		"schemas": strings.Join(append(fileschema.Names(), ofEvents), ","),
	},
		kong.Description("Webhooks in, complete and enriched events out.\n\n"+
			"Exit codes: 0 done, 1 the thing asked about failed, 2 the command line is wrong."),
		kong.ExplicitGroups([]kong.Group{{Key: "api", Title: "Where the pipeline is:"}}),
		kong.Writers(a.out, a.err), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Exit(func(code int) { panic(exitCode{code: code}) }))
	if err != nil {
		panic(err) // the struct above is wrong
	}
	defer func() { // --help and --version end here
		if r := recover(); r != nil {
			e, ok := r.(exitCode)
			if !ok {
				panic(r)
			}
			code = e.code
		}
	}()
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help": // as many programs take it
		args = append(args[1:], "--help")
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(a.err, "tercel: %s\n%s\n", err, usageHint(err))
		return boot.Usage
	}
	a.command, a.words = commandOf(k), parser.Model
	for _, f := range k.Flags() {
		a.json = a.json || f.Name == "json" && f.Target.Bool()
	}
	return a.end(k.Run(a))
}

// commandOf names the command of a command line, without its arguments.
func commandOf(k *kong.Context) string {
	command := "tercel"
	for _, word := range strings.Fields(k.Command()) {
		if !strings.ContainsAny(word, "<[") { // an argument
			command += " " + word
		}
	}
	return command
}

// usageHint says where the right command line is to be found.
func usageHint(err error) string {
	command := "tercel"
	var p *kong.ParseError
	if errors.As(err, &p) && p.Context != nil {
		command = commandOf(p.Context)
	}
	if command == "tercel" {
		return `Run "tercel --help" for its commands.`
	}
	return fmt.Sprintf("Run %q for its flags.", command+" --help")
}

// end tells how a command failed, if it did, and returns the exit code.
func (a *app) end(err error) int {
	var e exitCode
	var call *callError
	switch {
	case err == nil:
		return boot.OK
	case errors.As(err, &call) && a.json:
		errorOf(a.err, call)
		return call.exit()
	case errors.As(err, &call):
		e = exitCode{call.exit(), err.Error()}
	case errors.As(err, new(config.Faults)): // each line begins with its place
		fmt.Fprintln(a.err, err)
		return boot.Failed
	case !errors.As(err, &e):
		e = exitCode{boot.Failed, err.Error()}
	}
	if e.message != "" {
		fmt.Fprintf(a.err, "tercel: %s\n", printableLines([]byte(e.message)))
	}
	return e.code
}
