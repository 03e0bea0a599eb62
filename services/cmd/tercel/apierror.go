package main

import (
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// callError is why a call of the API failed, as people and programs get it.
type callError struct {
	Code    string `json:"code"`
	Reason  string `json:"reason,omitempty"` // of tercel.admin.v1.Reason
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`

	kind connect.Code
}

func (e *callError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s (%s)", e.Message, e.Code)
	}
	return fmt.Sprintf("%s (%s, %s)", e.Message, e.Code, e.Reason)
}

// exit is the exit code: what was asked for wrongly is the command line's fault.
func (e *callError) exit() int {
	if e.kind == connect.CodeInvalidArgument {
		return boot.Usage
	}
	return boot.Failed
}

// away reports whether another try may find the API, or what it needs, there.
func (e *callError) away() bool {
	return e.kind == connect.CodeUnavailable || e.kind == connect.CodeDeadlineExceeded
}

// told gives the error of a call its form. One that has it already, and one that
// is no call's, is returned as it is.
func (c caller) told(err error) error {
	var e *connect.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	out := &callError{Code: e.Code().String(), Message: e.Message(), kind: e.Code()}
	info := infoIn(e)
	if info != nil {
		out.Reason, out.Field = info.GetReason().String(), info.GetField()
	}
	switch info.GetReason() {
	case adminv1.Reason_REASON_UNAUTHENTICATED, adminv1.Reason_REASON_TOKEN_EXPIRED:
		out.Message += `; give it with --token-file or as ` + tokenVariable
		if c.token == "" {
			out.Message = c.address + ` wants a token: give one of the pipeline file's console.tokens with --token-file or as ` + tokenVariable
		}
	case adminv1.Reason_REASON_UNSPECIFIED:
		if out.kind == connect.CodeUnavailable || out.kind == connect.CodeUnknown && info == nil || out.kind == connect.CodeUnimplemented {
			out.Message = fmt.Sprintf("no admin API answers at %s: %s; \"tercel up\" and the program console serve it, "+
				"at console.listen of their pipeline file; --api names another address", c.address, e.Message())
		}
	}
	return out
}

func infoIn(e *connect.Error) *adminv1.ErrorInfo {
	for _, d := range e.Details() {
		if v, err := d.Value(); err == nil {
			if info, ok := v.(*adminv1.ErrorInfo); ok {
				return info
			}
		}
	}
	return nil
}

// errorOf tells programs of an error: the one JSON object that there is on
// standard error.
func errorOf(w io.Writer, e *callError) {
	_ = printLine(w, map[string]*callError{"error": e}) // there is nowhere else to say it
}
