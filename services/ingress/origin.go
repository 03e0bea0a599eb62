package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/services/internal/watch"
)

// Bounds of getting a list of networks.
const (
	listTimeout = 10 * time.Second
	listRetry   = time.Minute
	maxList     = 4 << 20 // bytes
)

// origin is which addresses one source may send from.
type origin struct {
	source string
	cfg    provider.Origin
	listed atomic.Pointer[[]provider.Network] // the last good list; nil before the first
}

// newOrigin returns nil where any address is allowed.
func newOrigin(source string, cfg provider.Origin) *origin {
	if cfg.IsZero() {
		return nil
	}
	return &origin{source: source, cfg: cfg}
}

// allows tells whether a may send; known is false if that can't be told yet.
func (o *origin) allows(a netip.Addr) (ok, known bool) {
	has := func(n provider.Network) bool { return n.Contains(a) }
	if slices.ContainsFunc(o.cfg.Allow, has) {
		return true, true
	}
	if o.cfg.List.IsZero() {
		return false, true
	}
	listed := o.listed.Load()
	return listed != nil && slices.ContainsFunc(*listed, has), listed != nil
}

// checkOrigin upholds promise 2 where a source's addresses are known.
func (in *inspection) checkOrigin() *refusal {
	o := in.route.origin
	if o == nil || in.captured() {
		return nil
	}
	from, err := in.sender()
	if err != nil {
		return in.refusedOrigin(http.StatusForbidden, err.Error())
	}
	switch ok, known := o.allows(from); {
	case ok:
		return nil
	case known:
		return in.refusedOrigin(http.StatusForbidden, from.String()+" is not in origin")
	default:
		no := in.refusedOrigin(http.StatusServiceUnavailable, from.String()+": origin.list has never been read")
		no.retryAfter = retryUnavailable
		return no
	}
}

func (in *inspection) refusedOrigin(status int, reason string) *refusal {
	return &refusal{
		status: status, outcome: refusedOrigin, text: "not taken from this address", reason: reason,
	}
}

func (in *inspection) originDetail() string {
	switch {
	case in.route.origin == nil:
		return "any address"
	case in.captured():
		return "not looked at: a captured request has no peer"
	default:
		return "allowed"
	}
}

// captured tells whether the request came out of a file.
func (in *inspection) captured() bool { return in.writer == nil }

// sender returns the address that the request was sent from. Of what the
// request says about its way only that part is believed which a trusted proxy
// has added: hops are read from the right up to the first that is none.
func (in *inspection) sender() (netip.Addr, error) {
	peer, err := netip.ParseAddrPort(in.request.RemoteAddr)
	if err != nil {
		return netip.Addr{}, errors.New("the peer has no IP address")
	}
	from := peer.Addr().Unmap().WithZone("")
	if !in.trusted(from) {
		return from, nil
	}
	byFor, err := in.hop(from, in.request.Header["X-Forwarded-For"], splitHops)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("header X-Forwarded-For: %w", err)
	}
	byForwarded, err := in.hop(from, in.request.Header["Forwarded"], splitForwarded)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("header Forwarded: %w", err)
	}
	// A proxy adds to one of them. The other is then whatever the sender wrote,
	// and which is which can't be told here.
	switch {
	case byFor == byForwarded || !byForwarded.IsValid():
		return valid(byFor, from), nil
	case !byFor.IsValid():
		return byForwarded, nil
	default:
		return netip.Addr{}, errors.New("X-Forwarded-For and Forwarded name different senders")
	}
}

func valid(a, otherwise netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return otherwise
}

func (in *inspection) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(in.proxies, func(n provider.Network) bool { return n.Contains(a) })
}

// hop returns the last hop in the header's values that is no trusted proxy, or
// the first if all are, or the zero Addr where the header isn't there.
func (in *inspection) hop(peer netip.Addr, values []string, split func(string) ([]string, error)) (netip.Addr, error) {
	if len(values) == 0 {
		return netip.Addr{}, nil
	}
	hops, err := split(strings.Join(values, ","))
	if err != nil {
		return netip.Addr{}, err
	}
	from := peer
	for _, text := range slices.Backward(hops) {
		if from, err = parseHop(text); err != nil {
			return netip.Addr{}, err
		}
		if !in.trusted(from) {
			break
		}
	}
	return from, nil
}

func splitHops(header string) ([]string, error) { return strings.Split(header, ","), nil }

// splitForwarded returns the for= nodes of a Forwarded header (RFC 7239,
// section 4; read November 2026), one for each hop.
func splitForwarded(header string) ([]string, error) {
	var nodes []string
	for rest := header; ; {
		node, after, more, err := cutHop(rest)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
		if !more {
			return nodes, nil
		}
		rest = after
	}
}

// cutHop reads one element of a Forwarded header. A text that isn't closed
// could swallow what a proxy has added behind it, so nothing malformed passes.
func cutHop(header string) (node, rest string, more bool, err error) {
	malformed := errors.New("malformed")
	for seen := false; ; {
		header = strings.TrimLeft(header, " \t")
		name, after, ok := strings.Cut(header, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t\",;") {
			return "", "", false, malformed
		}
		var value string
		if quoted, isQuoted := strings.CutPrefix(after, `"`); isQuoted {
			end := strings.IndexAny(quoted, `"\`)
			if end < 0 || quoted[end] == '\\' { // no address needs an escape
				return "", "", false, malformed
			}
			value, header = quoted[:end], quoted[end+1:]
		} else {
			end := strings.IndexAny(after, " \t\",;")
			if end < 0 {
				end = len(after)
			}
			value, header = after[:end], after[end:]
		}
		if strings.EqualFold(name, "for") {
			if seen {
				return "", "", false, malformed
			}
			node, seen = value, true
		}
		header = strings.TrimLeft(header, " \t")
		switch {
		case header == "":
			return node, "", false, nil
		case header[0] == ',':
			return node, header[1:], true, nil
		case header[0] != ';':
			return "", "", false, malformed
		}
		header = header[1:]
	}
}

// parseHop reads an address with or without a port. Its errors don't quote it.
func parseHop(text string) (netip.Addr, error) {
	text = strings.Trim(text, " \t")
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	bare := text
	if inner, ok := strings.CutPrefix(text, "["); ok {
		bare = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(bare)
	if err != nil {
		return netip.Addr{}, errors.New("a hop that is no IP address")
	}
	return a.Unmap().WithZone(""), nil
}

// keepList reads the source's list now and again, until ctx ends. It calls
// first after the first time.
func (o *origin) keepList(ctx context.Context, log *slog.Logger, first func()) {
	read := func(tell bool) bool {
		err := o.readList(ctx)
		if err != nil && tell && ctx.Err() == nil {
			log.LogAttrs(ctx, slog.LevelWarn, "list of origins not read, the last good one stays",
				slog.String("source", o.source), slog.Bool("had_one", o.listed.Load() != nil), slog.Any("err", err))
		}
		return err == nil
	}
	if o.cfg.List.File != "" {
		f := watch.File{Path: o.cfg.List.File}
		f.Changed()
		unread := !read(true)
		first()
		watch.Every(ctx, watch.Interval, func() {
			// What kept it from being read may have gone without a change of the file.
			if changed := f.Changed(); changed || unread {
				unread = !read(changed)
			}
		})
		return
	}
	due := time.Now()
	refresh := func() {
		if time.Now().Before(due) {
			return
		}
		if read(true) {
			due = time.Now().Add(o.cfg.List.Refresh)
		} else {
			due = time.Now().Add(min(listRetry, o.cfg.List.Refresh))
		}
	}
	refresh()
	first()
	watch.Every(ctx, min(o.cfg.List.Refresh, watch.Interval), refresh)
}

func (o *origin) readList(ctx context.Context) error {
	doc, err := o.fetchList(ctx)
	if err != nil {
		return err
	}
	nets, err := o.cfg.List.Read(doc)
	if err != nil {
		return fmt.Errorf("origin.list of %s: %w", o.source, err)
	}
	o.listed.Store(&nets)
	return nil
}

// newListClient follows no redirect: the list comes from where the operator said, or
// not at all.
func newListClient(allowPrivate bool) *http.Client {
	transport := egress.Transport(egress.Config{AllowPrivate: allowPrivate})
	transport.DisableKeepAlives = true // the next time is hours away
	return &http.Client{
		Timeout: listTimeout, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (o *origin) fetchList(ctx context.Context) ([]byte, error) {
	if path := o.cfg.List.File; path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("origin.list of %s: %w", o.source, err)
		}
		defer func() { _ = f.Close() }()
		return readAtMost(f, o.source)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.cfg.List.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("origin.list of %s: no URL", o.source)
	}
	resp, err := newListClient(o.cfg.List.AllowPrivate).Do(req)
	if err != nil {
		return nil, fmt.Errorf("origin.list of %s: %w", o.source, errors.Unwrap(err)) // without the URL, whose query may hold a key
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("origin.list of %s: status %d, want 200", o.source, resp.StatusCode)
	}
	return readAtMost(resp.Body, o.source)
}

func readAtMost(r io.Reader, source string) ([]byte, error) {
	doc, err := io.ReadAll(io.LimitReader(r, maxList+1))
	if err != nil {
		return nil, fmt.Errorf("origin.list of %s: %w", source, err)
	}
	if len(doc) > maxList {
		return nil, fmt.Errorf("origin.list of %s: more than %d bytes", source, maxList)
	}
	return doc, nil
}
