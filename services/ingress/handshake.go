package ingress

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

// handshakes are those of one source that come with one method.
type handshakes struct {
	unsigned, signed []provider.NamedHandshake
}

// mediaTypeForm is the type of what an HTML form sends.
const mediaTypeForm = "application/x-www-form-urlencoded"

// methods are what handshakes can be made with, beside events.
var methods = provider.Method("").Values()

// setHandshakes prepares the source's handshakes, and the methods that it takes.
func (r *route) setHandshakes() {
	r.handshakes = map[string]handshakes{}
	var allow []string
	for _, method := range methods {
		h := handshakes{r.source.Handshakes.Each(method, true), r.source.Handshakes.Each(method, false)}
		if len(h.unsigned)+len(h.signed) > 0 {
			r.handshakes[method] = h
		}
		if method == http.MethodPost || len(h.unsigned)+len(h.signed) > 0 {
			allow = append(allow, method)
		}
	}
	r.allow = strings.Join(allow, ", ")
	r.forms = slices.ContainsFunc(r.handshakes[http.MethodPost].unsigned, func(h provider.NamedHandshake) bool { return h.TakesForm() })
}

// checkMethod lets in POST, which events come with, and what handshakes do.
func (in *inspection) checkMethod() *refusal {
	method := in.request.Method
	if method == http.MethodPost {
		return nil
	}
	if _, ok := in.route.handshakes[method]; ok {
		return nil
	}
	return &refusal{
		status: http.StatusMethodNotAllowed, outcome: refusedStructure, text: "only " + in.route.allow + " is taken",
		header: "Allow", value: in.route.allow,
	}
}

// call is the request as handshakes see it.
func (in *inspection) call() *provider.Call {
	return &provider.Call{
		Header: in.request.Header, Query: in.request.URL.RawQuery, MediaType: in.mediaType, Body: in.body, Limit: in.route.source.Limit,
	}
}

// answerUnsigned answers a handshake that can't be signed. It comes before the
// signature is looked at, and so may do nothing but answer (promise 2).
func (in *inspection) answerUnsigned() *refusal {
	all := in.route.handshakes[in.request.Method]
	if len(all.unsigned) > 0 {
		if no := in.shake(all.unsigned); no != nil || in.handshake != nil {
			return no
		}
	}
	switch {
	case in.request.Method != http.MethodPost && len(all.signed) == 0:
		return noHandshake()
	case in.onlyHandshake:
		return in.typeNotTaken()
	}
	return nil
}

// answerSigned answers a handshake whose signature was accepted.
func (in *inspection) answerSigned() *refusal {
	if all := in.route.handshakes[in.request.Method]; len(all.signed) > 0 {
		if no := in.shake(all.signed); no != nil || in.handshake != nil {
			return no
		}
	}
	if in.request.Method != http.MethodPost {
		return noHandshake()
	}
	return nil
}

func noHandshake() *refusal {
	text := "no handshake of this source"
	return &refusal{status: http.StatusBadRequest, outcome: refusedStructure, text: text, reason: text}
}

// shake answers the first of all that applies to the request.
func (in *inspection) shake(all []provider.NamedHandshake) *refusal {
	call := in.call()
	i := slices.IndexFunc(all, func(h provider.NamedHandshake) bool { return h.Applies(call) })
	if i < 0 {
		return nil
	}
	h := &all[i]
	if err := h.Allow(call); err != nil {
		return &refusal{
			status: http.StatusForbidden, outcome: refusedSignature, text: "handshake not accepted",
			reason: "handshakes." + h.Name + ": " + err.Error(),
		}
	}
	var key signature.Key
	if !h.Unsigned {
		key = in.signedWith()
	}
	res, err := h.Respond(call, key)
	if err != nil {
		return &refusal{
			status: http.StatusBadRequest, outcome: refusedStructure, text: err.Error(),
			reason: "handshakes." + h.Name + ": " + err.Error(),
		}
	}
	if no := in.visit(h, call); no != nil {
		return no
	}
	in.handshake, in.response, in.brought = h, res, h.Brought(call)
	return nil
}

// signedWith is the key that the request was signed with, which is the one that
// its sender knows: while a secret is being changed there are two.
func (in *inspection) signedWith() signature.Key {
	for _, k := range in.keys() {
		if _, err := in.verify([]signature.Key{k}); err == nil {
			return k
		}
	}
	return signature.Key{}
}

func (in *inspection) handshakeDetail() string {
	if in.handshake == nil {
		return "none, but an event"
	}
	detail := fmt.Sprintf("%s, answered with %d and not stored", in.handshake.Name, in.response.Status)
	if !in.handshake.Visit.IsZero() && in.captured() {
		detail += "; its address isn't visited from here"
	}
	return detail
}

// shaken does what is left to do after a handshake was answered: it tells the
// operator of a secret that it brought, and never shows it (promise 9).
func (s *Service) shaken(ctx context.Context, in *inspection) {
	s.logVisit(ctx, in)
	if in.brought == "" {
		return
	}
	h := in.handshake
	attrs := []slog.Attr{slog.String("source", in.route.name), slog.String("handshake", h.Name)}
	if h.SaveTo == "" {
		if in.route.brought.may(time.Now()) {
			s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "a secret was brought and not kept; set save_to of the handshake to have it in a file, and let it be sent again", attrs...)
		}
		return
	}
	attrs = append(attrs, slog.String("path", h.SaveTo))
	err := saveOnce(h.SaveTo, in.brought)
	switch {
	case err == nil:
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "a secret was brought and saved; confirm it at the provider before it becomes one of the source's secrets", attrs...)
	case !in.route.brought.may(time.Now()):
	case errors.Is(err, fs.ErrExist):
		s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "a secret was brought and not kept: the file has one, remove it first", attrs...)
	default:
		s.deps.Log.LogAttrs(ctx, slog.LevelError, "a secret was brought and not saved", append(attrs, slog.Any("err", err))...)
	}
}

// saveOnce writes a new file. One that is there stays as it is: otherwise whoever
// calls last would choose what is in it.
func saveOnce(path, secret string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteString(secret + "\n"); err != nil {
		_ = f.Close()
		_ = os.Remove(path) // half a secret is none
		return err
	}
	return f.Close()
}
