package postgres

import (
	"bytes"
	"time"

	"github.com/tercelhq/tercel/services/internal/pg"
)

// orNull is s as a parameter, with nothing for "".
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	s = pg.Text(s)
	return &s
}

// document is a JSON value as a parameter, nothing for nil. The escape of NUL
// becomes that of the replacement character: the type json would store it, and
// then fail whoever reads any member of that document.
func document(v []byte) any {
	if v == nil {
		return nil
	}
	escape := []byte(`\u0000`)
	if !bytes.Contains(v, escape) {
		return v
	}
	out := make([]byte, 0, len(v))
	for {
		i := bytes.IndexByte(v, '\\')
		if i < 0 {
			return append(out, v...)
		}
		out = append(out, v[:i]...)
		if v = v[i:]; bytes.HasPrefix(v, escape) {
			out, v = append(out, `\ufffd`...), v[len(escape):]
			continue
		}
		n := min(2, len(v)) // the escaped character may be another backslash
		out, v = append(out, v[:n]...), v[n:]
	}
}

// moment is t as a parameter: to the microsecond, which is what timestamptz
// holds, and nothing for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Truncate(time.Microsecond)
	return &t
}

// nanos are the nanoseconds that moment leaves.
func nanos(t time.Time) int16 { return int16(t.Nanosecond() % 1000) }
