package event

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Received is what is kept of a request beside its body, so that it can be
// checked again: the headers that the checks of its time looked at. It is one
// header of the trigger, or of the stored request where there is one. No value of
// a credential is in it (promise 9).
type Received struct {
	// Header has the headers that came. Of those that were looked at and didn't
	// come it has the name, with no value.
	Header http.Header
	// Withheld are the names of headers that came and must not be stored.
	Withheld []string
	// Account says that the path named the account.
	Account bool
	// Query is the URL's, where the signed string has it.
	Query string
	// TooLarge says that all this was larger than [MaxReceived] and isn't there.
	TooLarge bool
}

// MaxReceived bounds what is kept of a request beside its body, in bytes.
const MaxReceived = 8 << 10

// Marks in the text, none of which can be part of a header's name.
const (
	markValue    = '=' // the length in bytes follows, a colon, and the value
	markAbsent   = ','
	markWithheld = ';'
	markAccount  = '/'
	markQuery    = '?'
	tooLarge     = "@"
)

// AppendReceived appends one header of a request as [ParseReceived] reads it.
func AppendReceived(b []byte, name string, values []string) []byte {
	if len(values) == 0 {
		return append(append(b, name...), markAbsent)
	}
	for _, v := range values {
		b = appendValue(append(append(b, name...), markValue), v)
	}
	return b
}

func appendValue(b []byte, v string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(v)), 10), ':'), v...)
}

// AppendWithheld appends the name of a header whose value isn't stored.
func AppendWithheld(b []byte, name string) []byte {
	return append(append(b, name...), markWithheld)
}

// AppendAddress appends what is kept of a request's address.
func AppendAddress(b []byte, account bool, query string) []byte {
	if account {
		b = append(b, markAccount)
	}
	if query != "" {
		b = appendValue(append(b, markQuery), query)
	}
	return b
}

// ReceivedText is what was appended as the value of a header.
func ReceivedText(b []byte) string {
	text := encodeHeader(string(b))
	if len(text) > MaxReceived {
		return tooLarge
	}
	return text
}

var errReceived = errors.New("header " + HeaderReceived + ": not what was kept of a request")

// ParseReceived reads a header's value. The error means that something else wrote
// it.
func ParseReceived(text string) (Received, error) {
	if text == tooLarge {
		return Received{TooLarge: true}, nil
	}
	if len(text) > MaxReceived {
		return Received{}, errReceived
	}
	rest, err := unescapeBytes(text)
	if err != nil {
		return Received{}, fmt.Errorf("header %s: %w", HeaderReceived, err)
	}
	r := Received{Header: http.Header{}}
	for rest != "" {
		i := strings.IndexAny(rest, "=,;/?")
		if i < 0 {
			return Received{}, errReceived
		}
		name, mark := rest[:i], rest[i]
		rest = rest[i+1:]
		named := mark != markAccount && mark != markQuery
		if named != (name != "") {
			return Received{}, errReceived
		}
		var value string
		if mark == markValue || mark == markQuery {
			var ok bool
			if value, rest, ok = cutValue(rest); !ok {
				return Received{}, errReceived
			}
		}
		switch mark {
		case markValue:
			r.Header[name] = append(r.Header[name], value)
		case markAbsent:
			r.Header[name] = nil
		case markWithheld:
			r.Withheld = append(r.Withheld, name)
		case markAccount:
			r.Account = true
		case markQuery:
			r.Query = value
		}
	}
	return r, nil
}

// cutValue reads a length, a colon and so many bytes.
func cutValue(text string) (value, rest string, ok bool) {
	digits, rest, ok := strings.Cut(text, ":")
	n, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil || int(n) > len(rest) {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}

// Knows reports whether it is known if the request had a header of that name,
// spelled as net/http does.
func (r Received) Knows(name string) bool {
	_, ok := r.Header[name]
	return ok
}
