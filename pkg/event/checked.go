package event

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Checked is how a trigger was taken in, as one short header such as
// "312,ingress-0": microseconds from its arrival until it had passed every check,
// and the host that took it.
type Checked struct {
	Took time.Duration
	By   string
}

// maxHost bounds a host's name in a header.
const maxHost = 32

// String gives c as a header's value.
func (c Checked) String() string {
	by := c.By[:min(len(c.By), maxHost)]
	b := strconv.AppendInt(make([]byte, 0, 12+len(by)), max(0, c.Took.Microseconds()), 10)
	return string(append(append(b, ','), by...))
}

// ParseChecked reads a header's value. The error means that something else wrote
// it.
func ParseChecked(text string) (Checked, error) {
	took, by, ok := strings.Cut(text, ",")
	us, err := strconv.ParseInt(took, 10, 40)
	if !ok || err != nil || us < 0 || len(by) > maxHost {
		return Checked{}, errors.New("header " + HeaderChecked + ": want MICROSECONDS,HOST")
	}
	return Checked{Took: time.Duration(us) * time.Microsecond, By: by}, nil
}
