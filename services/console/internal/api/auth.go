package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/tercelhq/tercel/pkg/pipeline"
	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
	"github.com/tercelhq/tercel/services/console/internal/access"
)

// method is one method of the contract.
type method struct {
	name     string // "Service.Method"
	role     pipeline.Role
	operator bool
}

// methods reads from the contract what role each method wants, so that none can
// be served without.
func methods() (map[string]method, error) {
	all := map[string]method{}
	var errs []error
	protoregistry.GlobalFiles.RangeFilesByPackage(adminv1.File_tercel_admin_v1_access_proto.Package(), func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				procedure := fmt.Sprintf("/%s/%s", s.FullName(), m.Name())
				name := fmt.Sprintf("%s.%s", s.Name(), m.Name())
				switch role := proto.GetExtension(m.Options(), adminv1.E_Role).(adminv1.Role); role {
				case adminv1.Role_ROLE_VIEWER:
					all[procedure] = method{name, pipeline.Viewer, false}
				case adminv1.Role_ROLE_OPERATOR:
					all[procedure] = method{name, pipeline.Operator, true}
				default:
					errs = append(errs, fmt.Errorf("method %s wants the role %s, which nobody has", name, role))
				}
			}
		}
		return true
	})
	return all, errors.Join(errs...)
}

// writeTimeout bounds how long one piece of an answer may wait for its reader.
const writeTimeout = 30 * time.Second

// serve lets in who may call the method, before anything of the body is read.
func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	m, ok := a.methods[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	caller, err := a.deps.Gate.Check(access.Bearer(r.Header), access.Address(r))
	if err != nil {
		a.refuse(w, r, m, unauthenticated(err))
		return
	}
	a.admit(w, r, m, caller)
}

// admit serves a call of somebody who is known.
func (a *API) admit(w http.ResponseWriter, r *http.Request, m method, caller access.Caller) {
	if !caller.May(m.role) {
		a.refuse(w, r, m, fail(connect.CodePermissionDenied, adminv1.Reason_REASON_ROLE,
			"%s wants the role %s, and %s is a %s", m.name, m.role, caller.Name, caller.Role))
		return
	}
	ctx := access.With(r.Context(), caller)
	if !caller.ExpiresAt.IsZero() { // a stream must not outlive its token
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, caller.ExpiresAt)
		defer cancel()
	}
	a.mux.ServeHTTP(&patient{ResponseWriter: w, control: http.NewResponseController(w)}, r.WithContext(ctx))
}

// refuse answers in the caller's own protocol where it speaks one.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, m method, err *connect.Error) {
	a.calls.answered(r.Context(), m, err)
	if err.Code() == connect.CodeUnauthenticated {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if a.errors.IsSupported(r) {
		_ = a.errors.Write(w, r, err) // the caller has gone
		return
	}
	status := map[connect.Code]int{
		connect.CodeUnauthenticated: http.StatusUnauthorized, connect.CodePermissionDenied: http.StatusForbidden,
		connect.CodeResourceExhausted: http.StatusTooManyRequests,
	}[err.Code()]
	http.Error(w, err.Message(), status)
}

func unauthenticated(err error) *connect.Error {
	switch {
	case errors.Is(err, access.ErrTooMany):
		return fail(connect.CodeResourceExhausted, adminv1.Reason_REASON_TOO_MANY_ATTEMPTS, "%w", err)
	case errors.Is(err, access.ErrExpired):
		return fail(connect.CodeUnauthenticated, adminv1.Reason_REASON_TOKEN_EXPIRED, "%w", err)
	default:
		return fail(connect.CodeUnauthenticated, adminv1.Reason_REASON_UNAUTHENTICATED,
			"no valid token; send one of the pipeline file's console.tokens as \"Authorization: Bearer …\"")
	}
}

// patient waits for a reader of each piece of an answer, but not for ever. A
// bound of the whole would end streams.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write writes within the bound.
func (p *patient) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a writer that can't has no connection to hold
	return p.ResponseWriter.Write(b)
}

// Flush sends what was written, which streams need.
func (p *patient) Flush() { _ = p.control.Flush() }

// Unwrap returns the writer that p writes to.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }
