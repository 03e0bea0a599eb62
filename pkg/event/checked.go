package event

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Checked is how a trigger was taken in: by whom, how long it took, and what each
// check found. It is one short header of a trigger, such as
//
//	312,ingress-0;r=80;s=hmac-sha256,env:SHOP_SECRET;a=2100,300000;o=any;b=json;i=signed;d=1800,0
//
// Where a field is empty or zero, the check was not made or is not known: those
// who wrote the header before there were verdicts have none.
type Checked struct {
	// Took is the time from the request's arrival until it had passed every check,
	// and Read that until its body had come, which is part of it.
	Took, Read time.Duration
	// By is the host that took it.
	By string
	// Again says that the stored request was checked once more, for a replay.
	Again bool
	// Scheme is the signature's, and Key the name of the secret that matched, such
	// as "env:SHOP_SECRET". A request that was checked again may have a signature
	// that could not be, because the credential isn't stored: then Key is
	// [KeyNotStored].
	Scheme, Key string
	// Age is how long before its arrival the request was signed, negative where the
	// sender's clock is ahead, and Tolerance the most that it may be; 0 where the
	// scheme has no time.
	Age, Tolerance time.Duration
	// Origin, Body and ID are what the checks of the sender's address, of the body's
	// form and of the delivery id found, words from closed sets.
	Origin, Body, ID string
	// Schema is "ok" for a body that matches its schema, or where it doesn't,
	// which is only a warning. "" where there is none.
	Schema string
	// Window is how far back the same message id would have been found in the
	// stream, and Horizon by the second line beyond it.
	Window, Horizon time.Duration
}

// KeyNotStored stands for the key of a signature that could not be checked again.
const KeyNotStored = "?"

// What checks found, closed sets.
const (
	OriginAny     = "any"     // the source may send from anywhere
	OriginAllowed = "allowed" // the address is one of the source's
	OriginUnknown = "?"       // the address isn't stored, so it could not be checked again

	BodyJSON = "json" // strict JSON
	BodyAny  = "any"  // nothing looks into it

	IDSigned   = "signed"   // the signature covers the delivery id
	IDUnsigned = "unsigned" // it doesn't; a part of the body's hash is added
	IDBody     = "body"     // there is none; the body's hash serves
	IDOwn      = "own"      // no request repeats another

	SchemaMatched = "ok"
)

// Bounds of the texts in a header, in bytes.
const (
	maxHost   = 32
	maxKey    = 64
	maxSchema = 128
	maxWord   = 32
)

// String gives c as a header's value.
func (c Checked) String() string { return string(c.Append(nil)) }

// Append appends c as a header's value. It is what every trigger pays for, so
// nothing is allocated beside b.
func (c Checked) Append(b []byte) []byte {
	b = strconv.AppendInt(b, max(0, c.Took.Microseconds()), 10)
	b = appendText(append(b, ','), c.By, maxHost)
	if c.Again {
		b = append(b, ";v"...)
	}
	if c.Read > 0 {
		b = strconv.AppendInt(append(b, ";r="...), c.Read.Microseconds(), 10)
	}
	if c.Scheme != "" {
		b = appendText(append(b, ";s="...), c.Scheme, maxWord)
		if c.Key != "" {
			b = appendText(append(b, ','), c.Key, maxKey)
		}
	}
	if c.Tolerance > 0 {
		b = appendPair(append(b, ";a="...), c.Age.Milliseconds(), c.Tolerance.Milliseconds())
	}
	for _, f := range [...]struct{ name, text string }{{";o=", c.Origin}, {";b=", c.Body}, {";i=", c.ID}} {
		if f.text != "" {
			b = appendText(append(b, f.name...), f.text, maxWord)
		}
	}
	if c.Schema != "" {
		b = appendText(append(b, ";c="...), c.Schema, maxSchema)
	}
	if c.Window > 0 || c.Horizon > 0 {
		b = appendPair(append(b, ";d="...), int64(c.Window/time.Second), int64(c.Horizon/time.Second))
	}
	return b
}

// appendText appends at most most bytes of a text, and for what would end it or
// would have to be escaped an underscore.
func appendText(b []byte, text string, most int) []byte {
	for i := range min(len(text), most) {
		if c := text[i]; headerBytes[c] && c != ';' && c != ',' {
			b = append(b, c)
		} else {
			b = append(b, '_')
		}
	}
	return b
}

func appendPair(b []byte, x, y int64) []byte {
	return strconv.AppendInt(append(strconv.AppendInt(b, x, 10), ','), y, 10)
}

var errChecked = errors.New("header " + HeaderChecked + ": want MICROSECONDS,HOST and what checks found")

// ParseChecked reads a header's value. The error means that something else wrote
// it. Fields of a later version are left out.
func ParseChecked(text string) (Checked, error) {
	head, rest, more := strings.Cut(text, ";")
	took, by, ok := strings.Cut(head, ",")
	us, err := strconv.ParseInt(took, 10, 40)
	if !ok || err != nil || us < 0 || len(by) > maxHost {
		return Checked{}, errChecked
	}
	c := Checked{Took: time.Duration(us) * time.Microsecond, By: by}
	for more {
		var part string
		part, rest, more = strings.Cut(rest, ";")
		name, value, _ := strings.Cut(part, "=")
		if len(value) > maxSchema || !c.set(name, value) {
			return Checked{}, errChecked
		}
	}
	return c, nil
}

// set sets one field, and reports whether the value can be its.
func (c *Checked) set(name, value string) (ok bool) {
	x, y, pair := strings.Cut(value, ",")
	switch name {
	case "v":
		c.Again = true
	case "r":
		return parseTime(&c.Read, value, time.Microsecond)
	case "s":
		c.Scheme, c.Key = x, y
		return x != ""
	case "a":
		return pair && parseTime(&c.Age, x, time.Millisecond) && parseTime(&c.Tolerance, y, time.Millisecond)
	case "o":
		c.Origin = value
	case "b":
		c.Body = value
	case "i":
		c.ID = value
	case "c":
		c.Schema = value
	case "d":
		return pair && parseTime(&c.Window, x, time.Second) && parseTime(&c.Horizon, y, time.Second)
	}
	return true
}

// maxUnits keeps a time far from what a duration holds, whatever its unit.
const maxUnits = 1 << 33

func parseTime(d *time.Duration, text string, unit time.Duration) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= -maxUnits || n >= maxUnits {
		return false
	}
	*d = time.Duration(n) * unit
	return true
}

// Verdict is what one check found, for people and programs.
type Verdict struct {
	// Check is the check's name.
	Check string `json:"check"`
	// Result is how it went.
	Result Result `json:"result"`
	// Detail says what was found. It holds no secret and no payload.
	Detail string `json:"detail,omitzero"`
}

// Result is how a check went.
type Result string

// The results, a closed set.
const (
	Passed      Result = "passed"
	Warned      Result = "warned"       // it did not pass, which is no reason to refuse
	NotRepeated Result = "not repeated" // it can't be made of what is stored
	Failed      Result = "failed"
	NotReached  Result = "not reached" // an earlier one failed
	Skipped     Result = "skipped"
)

// Verdicts lists what the checks found, in their order.
func (c Checked) Verdicts() []Verdict {
	var all []Verdict
	add := func(check string, r Result, format string, args ...any) {
		all = append(all, Verdict{check, r, fmt.Sprintf(format, args...)})
	}
	switch c.Origin {
	case "":
	case OriginUnknown:
		add("origin", NotRepeated, "the sender's address is not stored")
	default:
		add("origin", Passed, "%s", cmp.Or(words[c.Origin], c.Origin))
	}
	switch {
	case c.Scheme == "":
	case c.Key == KeyNotStored:
		add("signature", NotRepeated, "%s: the credential is not stored", c.Scheme)
	case c.Key == "":
		add("signature", Passed, "%s", c.Scheme)
	default:
		add("signature", Passed, "%s, by %s", c.Scheme, c.Key)
	}
	if c.Tolerance > 0 {
		when := fmt.Sprintf("%s before it came", c.Age)
		if c.Age < 0 {
			when = fmt.Sprintf("%s after it came, by the sender's clock", -c.Age)
		}
		add("timestamp", Passed, "signed %s, at most %s", when, c.Tolerance)
	}
	if c.Body != "" {
		add("structure", Passed, "%s", cmp.Or(words["body "+c.Body], c.Body))
	}
	if c.ID != "" {
		add("event id", Passed, "%s", cmp.Or(words[c.ID], c.ID))
	}
	switch c.Schema {
	case "":
	case SchemaMatched:
		add("schema", Passed, "matched")
	default:
		add("schema", Warned, "not matched: %s", c.Schema)
	}
	if c.Window > 0 {
		text := fmt.Sprintf("no repeat within %s", c.Window)
		if c.Horizon > 0 {
			text += fmt.Sprintf(", nor as far as is known within %s", c.Horizon)
		}
		add("repeat", Passed, "%s", text)
	}
	return all
}

// words are what checks found, for people.
var words = map[string]string{
	OriginAny: "any address may send", OriginAllowed: "the address is the source's",
	"body " + BodyJSON: "strict JSON", "body " + BodyAny: "any bytes",
	IDSigned: "signed", IDUnsigned: "not signed, so a part of the body's hash is added", IDBody: "none; the body's hash serves",
	IDOwn: "one of our own",
}
