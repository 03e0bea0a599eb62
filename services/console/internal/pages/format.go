package pages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// views are the templates of all pages, each with the frame around it.
func views(now func() time.Time) (map[string]*template.Template, error) {
	base, err := template.New("").Funcs(functions(now)).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	all := map[string]*template.Template{}
	for _, file := range files {
		t, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if all[strings.TrimPrefix(file, "templates/")], err = t.ParseFS(templateFiles, file); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// functions are what templates may call. Each makes text, which the template
// escapes.
func functions(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"time":       func(t *timestamppb.Timestamp) string { return exact(t) },
		"ago":        func(t *timestamppb.Timestamp) string { return ago(now(), t) },
		"in":         func(t *timestamppb.Timestamp) string { return until(now(), t) },
		"took":       took,
		"count":      count,
		"bytes":      size,
		"text":       shown,
		"payload":    func(data []byte) string { return payload(data) },
		"address":    address,
		"spark":      newSpark,
		"enum":       word,
		"plural":     plural,
		"sorted":     sortedCounts,
		"sum":        sum,
		"percent":    percent,
		"future":     func(t *timestamppb.Timestamp) bool { return t != nil && t.AsTime().After(now()) },
		"eventURL":   eventURL,
		"list":       func(words ...string) []string { return words },
		"navigation": func() []entry { return navigation },
	}
}

// entry is one of the navigation.
type entry struct{ Path, Name string }

var navigation = []entry{
	{"/", "Overview"},
	{"/events", "Events"},
	{"/dead-letters", "Dead letters"},
	{"/reconciliation", "Reconciliation"},
	{"/sources", "Sources"},
	{"/audit", "Audit"},
}

// exact is a time to the millisecond, in UTC.
func exact(t *timestamppb.Timestamp) string {
	if t == nil {
		return "–"
	}
	return t.AsTime().UTC().Format("2006-01-02 15:04:05.000 UTC")
}

func ago(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return "never"
	}
	d := now.Sub(t.AsTime())
	if d < 0 {
		return "in " + rough(-d)
	}
	if d < time.Second {
		return "now"
	}
	return rough(d) + " ago"
}

// until is how long it is to a time that is to come.
func until(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return "–"
	}
	if d := t.AsTime().Sub(now); d > 0 {
		return "in " + rough(d)
	}
	return "due"
}

// rough is a duration with its greatest unit only.
func rough(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 2*day:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	case d < 2*365*day:
		return strconv.Itoa(int(d/day)) + " d"
	default:
		return strconv.Itoa(int(d/(365*day))) + " years"
	}
}

func took(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	switch v := d.AsDuration(); {
	case v < time.Millisecond:
		return fmt.Sprintf("%d µs", v.Microseconds())
	case v < 10*time.Second:
		return fmt.Sprintf("%d ms", v.Milliseconds())
	default:
		return rough(v)
	}
}

// count is a number with its digits in groups of three.
func count(v any) string {
	text := fmt.Sprint(v)
	if strings.Trim(text, "0123456789") != "" {
		return text
	}
	var b strings.Builder
	for i, c := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteRune('\u202f') // a narrow space that doesn't break
		}
		b.WriteRune(c)
	}
	return b.String()
}

func size(v uint64) string {
	const unit = 1024
	if v < unit {
		return strconv.FormatUint(v, 10) + " B"
	}
	f, units := float64(v), "KMGTPE"
	e := min(int(math.Log(f)/math.Log(unit)), len(units))
	return fmt.Sprintf("%.1f %ciB", f/math.Pow(unit, float64(e)), units[e-1])
}

// shown is a text from outside as it can be seen: control characters, which could
// hide or turn around what stands beside them, by their numbers.
func shown(text string) string {
	clean := func(r rune) bool {
		return r == '\n' || r == '\t' || unicode.IsGraphic(r) && !unicode.Is(unicode.Bidi_Control, r)
	}
	if !strings.ContainsFunc(text, func(r rune) bool { return !clean(r) }) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == utf8.RuneError:
			b.WriteRune('\uFFFD')
		case clean(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}

// payload is a body as it can be read: JSON with line breaks, and other texts as
// they are. Nothing is left out or put in order, so that it can be trusted.
func payload(data []byte) string {
	if len(data) == 0 {
		return ""
	}
	var indented bytes.Buffer
	if json.Valid(data) && json.Indent(&indented, data, "", "  ") == nil {
		return shown(indented.String())
	}
	return shown(string(data))
}

func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v.Encode()
}

// eventURL is where one event is shown. An id is unique within its source and
// account alone.
func eventURL(source, account, id string) string {
	return address("/events/one", "source", source, "account", account, "id", id)
}

// address is a page with what it is about. Templates have it whole: what they put
// behind a question mark they take for one value, and escape its marks.
func address(path string, pairs ...string) string { return path + "?" + query(pairs...) }

// word is the value of an enumeration without its type, in small letters.
func word(v fmt.Stringer, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(v.String(), prefix)), "_", " ")
}

func plural(n any, one, many string) string {
	if fmt.Sprint(n) == "1" {
		return count(n) + " " + one
	}
	return count(n) + " " + many
}

// named is one of several counts.
type named struct {
	Name  string
	Count uint64
}

// sortedCounts are counts with the greatest first, without those that are 0.
func sortedCounts(counts map[string]uint64) []named {
	var all []named
	for name, n := range counts {
		if n > 0 {
			all = append(all, named{name, n})
		}
	}
	slices.SortFunc(all, func(a, b named) int {
		if a.Count != b.Count {
			if a.Count > b.Count {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

func sum(counts map[string]uint64) uint64 {
	var n uint64
	for _, c := range counts {
		n += c
	}
	return n
}

// percent is a part of a whole, 0 to 100.
func percent(part, whole uint64) int {
	if whole == 0 {
		return 0
	}
	return int(min(part, whole) * 100 / whole)
}
