package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/pipeline"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/sourceapi"
	"github.com/tercelhq/tercel/services/ingress"
	"github.com/tercelhq/tercel/services/internal/boot"
)

type tryCmd struct {
	Config   string            `short:"c" help:"The pipeline file." default:"tercel.yaml" env:"TERCEL_CONFIG"`
	Source   string            `required:"" help:"The source that the sample is for." placeholder:"NAME"`
	At       string            `help:"Judge the sample as if it came at this time (RFC 3339). Defaults to now." placeholder:"TIME"`
	Unsigned bool              `help:"Don't look at the signature."`
	Body     bool              `help:"SAMPLE is a JSON body and no HTTP request; nothing is looked at that signs it."`
	Type     string            `help:"The event's type, instead of what the sample says." placeholder:"TYPE"`
	Header   map[string]string `help:"A header of the request, with --body." placeholder:"NAME=VALUE"`
	Account  string            `help:"The account that the request names, with --body." placeholder:"NAME"`
	Record   []string          `help:"A file with the API's answer to the first request, or PATH=FILE for another; PATH= for a 404." placeholder:"[PATH=]FILE" sep:"none"`
	Fetch    bool              `help:"Ask the source's API, as the enricher would."`
	JSON     bool              `name:"json" help:"Print the result as JSON."`
	Sample   string            `arg:"" help:"A file with the raw HTTP request, as tercel verify takes it; - for standard input."`
}

// Help is shown by --help.
func (tryCmd) Help() string {
	return `Takes a sample through the checks of the ingress, the enricher and each destination's when and map, with the
functions of the services themselves. Nothing is stored or delivered, and no destination is opened. The API is only
asked with --fetch; else the requests are shown that would be made.
Exits 1 when the sample would be refused, or something of it would become a dead letter.

Example:
  tercel try --source orders --body --type order.paid --record order-7.json body.json`
}

// Run runs the command.
func (c tryCmd) Run(a *app) error {
	s, file, err := c.sample(a)
	if err != nil {
		return err
	}
	closeAPI, err := c.setAPI(&s, file)
	if err != nil {
		return err
	}
	defer closeAPI()
	t, err := s.try(a.ctx, file)
	if err != nil {
		return err
	}
	failing := t.failed(!c.Fetch && len(c.Record) == 0)
	t.redact(file.Sources[c.Source].Redact)
	if c.JSON {
		err = printJSON(a.out, t)
	} else {
		err = printTried(a.out, t)
	}
	if err == nil && failing {
		err = failed()
	}
	return err
}

// sample reads what is to be tried, and the file to try it with.
func (c tryCmd) sample(a *app) (sample, *pipeline.File, error) {
	s := sample{source: c.Source, at: time.Now(), unsigned: c.Unsigned || c.Body, typ: c.Type}
	switch {
	case !c.Body && (c.Account != "" || len(c.Header) > 0):
		return s, nil, exitCode{boot.Usage, "--account and --header are of a sample that is a --body"}
	case c.Fetch && len(c.Record) > 0:
		return s, nil, exitCode{boot.Usage, "--fetch and --record exclude each other"}
	}
	var err error
	if c.At != "" {
		if s.at, err = time.Parse(time.RFC3339Nano, c.At); err != nil {
			return s, nil, exitCode{boot.Usage, fmt.Sprintf("--at %q: want a time such as 2026-03-01T12:00:00Z", c.At)}
		}
	}
	file, err := pipeline.Load(c.Config)
	if err != nil {
		return s, nil, err
	}
	if _, err := sourceOf(file, c.Source); err != nil {
		return s, nil, err
	}
	if s.raw, err = readSample(a.in, c.Sample); err != nil {
		return s, nil, err
	}
	if c.Body {
		if s.raw, err = bodyRequest(c.Source, c.Account, c.Header, s.raw); err != nil {
			return s, nil, err
		}
		s.noID = lacksID(file.Sources[c.Source], s.raw)
	}
	return s, file, nil
}

// setAPI gives the sample the API that the flags say.
func (c tryCmd) setAPI(s *sample, file *pipeline.File) (end func(), err error) {
	if c.Fetch {
		return c.openAPI(s, file)
	}
	given := &answers{byPath: map[string][]byte{}, at: s.at}
	for _, r := range c.Record {
		path, name, more := strings.Cut(r, "=")
		if !strings.HasPrefix(path, "/") || !more {
			path, name = "", r
		}
		var body []byte
		if name != "" {
			if body, err = os.ReadFile(name); err != nil {
				return nil, err
			}
		}
		if path == "" {
			given.first = body
		} else {
			given.byPath[path] = body
		}
	}
	s.api = given
	return func() {}, nil
}

// openAPI gives the sample the source's own API, with the credentials that the
// enricher has. Refresh tokens that their issuer replaces are in a running
// pipeline only.
func (c tryCmd) openAPI(s *sample, file *pipeline.File) (end func(), err error) {
	src := file.Sources[c.Source]
	if src.Accounts.Bucket != "" {
		return nil, fmt.Errorf("--fetch: the accounts of %s are in a bucket, which isn't read here", c.Source)
	}
	set, err := account.Open(account.Config{
		Sources: map[string]provider.Source{c.Source: src}, SealKeys: file.SealKeys, Streams: file.Streams,
	}, account.Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	client, err := sourceapi.New(c.Source, src.API, sourceapi.Deps{Auth: set.Auth(&src, c.Source)})
	if err != nil {
		set.Close()
		return nil, err
	}
	s.api = client
	return func() { client.Close(); set.Close() }, nil
}

func printTried(w io.Writer, t tried) error {
	tb := newTable(w)
	for _, s := range t.Steps {
		tb.row(s.Result, s.Name, s.Detail)
	}
	if err := tb.flush(); err != nil {
		return err
	}
	skipped := slices.ContainsFunc(t.Steps, func(s ingress.Step) bool { return s.Result == ingress.Skipped })
	switch {
	case !t.Accepted:
		fmt.Fprintf(w, "\nrefused with %d\n", t.Status)
	case t.Handshake != "":
		fmt.Fprintf(w, "\nanswered with %d as handshake %s; nothing would be stored\n", t.Status, printable(t.Handshake))
	case skipped:
		fmt.Fprintln(w, "\naccepted, if its signature were right")
	default:
		fmt.Fprintf(w, "\naccepted with %d\n", t.Status)
	}
	for _, e := range t.Events {
		printTriedEvent(w, t.Source, e)
	}
	return nil
}

func printTriedEvent(w io.Writer, source string, e *triedEvent) {
	fmt.Fprintf(w, "\nevent %s\n", printable(e.ID))
	tb := newTable(w)
	tb.row("  type", e.Type)
	if e.Dropped {
		tb.row("  dropped", "sources."+source+".drop says true; nothing is fetched or delivered")
	}
	for _, r := range e.Requests {
		tb.row("  asked", r)
	}
	switch {
	case e.Error != "" && strings.HasSuffix(e.Error, notAsked):
		tb.row("  stopped", e.Error+" (--record FILE gives one, --fetch asks the API)")
	case e.Error != "":
		tb.row("  failed", e.Error)
	case e.Deleted:
		tb.row("  record", e.Resource+" "+e.RecordID+" is gone: a tombstone")
	case e.Resource != "":
		tb.row("  record", e.Resource+" "+e.RecordID+", version "+e.Version)
	}
	if string(e.Body) != "null" {
		tb.row("  event", string(e.Body))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Destinations)) {
		d := e.Destinations[name]
		switch {
		case d.Error != "":
			tb.row("  "+name, "failed: "+d.Error)
		case d.Why != "":
			tb.row("  "+name, "not delivered: "+d.Why)
		default:
			tb.row("  "+name, "delivered: "+string(d.Payload))
		}
	}
	_ = tb.flush() // as all writes here: the command's end is told by what follows
}
