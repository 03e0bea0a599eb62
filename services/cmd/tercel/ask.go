package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tercelhq/tercel/services/internal/boot"
)

// reasonFlags say why an operator does something.
type reasonFlags struct {
	Reason string `help:"Why, for the audit record. Defaults to the command's name." placeholder:"TEXT"`
}

// why is the reason for the audit record.
func (f reasonFlags) why(a *app) string {
	if f.Reason != "" {
		return f.Reason
	}
	return a.command
}

// confirm asks before something that changes more than one event. Without a
// terminal to ask at it refuses.
func confirm(a *app, question string) error {
	nobody := exitCode{boot.Usage, question + " There is no terminal to ask at; say --yes"}
	if !isTerminal(a.in) {
		return nobody
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(a.in, &answer); errors.Is(err, io.EOF) { // /dev/null looks like a terminal
		fmt.Fprintln(a.err)
		return nobody
	}
	if a := strings.ToLower(answer); a != "y" && a != "yes" {
		return exitCode{boot.Failed, "nothing was done"}
	}
	return nil
}
