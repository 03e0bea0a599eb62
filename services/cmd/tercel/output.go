package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// printJSON writes v as one indented JSON value.
func printJSON(w io.Writer, v any) error { return writeJSON(w, v, "  ") }

// printLine writes v as JSON on one line.
func printLine(w io.Writer, v any) error { return writeJSON(w, v, "") }

func writeJSON(w io.Writer, v any, indent string) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escaped(text.Bytes()))
	return err
}

// escaped is JSON in which nothing steers a terminal: what JSON may have as it is
// within texts, and terminals take for commands or for the order of letters.
func escaped(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r != '\n' && steers(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}

// message is an API's message as JSON: with the names of the contract, and with
// fields that are empty.
func message(m proto.Message) (json.RawMessage, error) {
	return protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
}

// printMessage writes a message as one indented JSON value.
func printMessage(w io.Writer, m proto.Message) error {
	text, err := message(m)
	if err != nil {
		return err
	}
	return printJSON(w, text)
}

// printMessageLine writes a message as JSON on one line.
func printMessageLine(w io.Writer, m proto.Message) error {
	text, err := message(m)
	if err != nil {
		return err
	}
	return printLine(w, text)
}

// messages are several messages as JSON.
func messages[M proto.Message](all []M) ([]json.RawMessage, error) {
	texts := []json.RawMessage{}
	for _, m := range all {
		text, err := message(m)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// table writes rows in columns under a heading.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, columns ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(columns) > 0 {
		fmt.Fprintln(t.w, strings.ToUpper(strings.Join(columns, "\t")))
	}
	return t
}

func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = printable(fmt.Sprint(c))
	}
	fmt.Fprintln(t.w, strings.Join(texts, "\t"))
}

func (t *table) flush() error { return t.w.Flush() }

// steers reports whether a terminal takes a rune for a command, or to turn the
// order of letters around.
func steers(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// printable keeps what came from outside from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if steers(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// printableLines is printable, but for the ends of lines and tabs in a payload.
func printableLines(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && steers(r) {
			return '\uFFFD'
		}
		return r
	}, string(text))
}

// printPayload shows a payload, of which there may be more.
func printPayload(w io.Writer, payload []byte, total uint64, truncated bool) error {
	_, err := fmt.Fprintln(w, printableLines(payload))
	if err == nil && truncated {
		_, err = fmt.Fprintf(w, "(the first %d of %d bytes)\n", len(payload), total)
	}
	return err
}

// stamp is a time for people, or a dash.
func stamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05.000")
}

// ago is the time since t for people.
func ago(t *timestamppb.Timestamp) string {
	if t == nil {
		return "never"
	}
	return time.Since(t.AsTime()).Round(time.Second).String() + " ago"
}

// took is a duration of a message for people, or a dash.
func took(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	return d.AsDuration().Round(10 * time.Microsecond).String()
}

// word is the name of an enum's value for people: without the enum's own.
func word(name fmt.Stringer, enum string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name.String(), enum+"_"), "_", " "))
}

// orDash is s, or a dash for "".
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shorten cuts text to n runes.
func shorten(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n]) + "…"
	}
	return text
}
