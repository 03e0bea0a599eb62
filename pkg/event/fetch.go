package event

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Fetch is how one record was got from the source.
type Fetch struct {
	// Name is "record", or the name of a related one.
	Name string `json:"name"`
	// Status is the HTTP status of the answer.
	Status int `json:"status"`
	// Tries is how many requests it took; 0 is none of its own.
	Tries int `json:"tries"`
	// From says where the answer came from.
	From FetchedFrom `json:"from"`
	// Took is how long the last request took, to the millisecond.
	Took time.Duration `json:"took"`
}

// FetchedFrom is where an answer came from, a closed set.
type FetchedFrom string

// The places.
const (
	FromSource    FetchedFrom = "source"    // it was asked, for this event
	FromUnchanged FetchedFrom = "unchanged" // it was asked, and said that what it showed before is still so
	FromShared    FetchedFrom = "shared"    // it was asked for another event at the same time
	FromCache     FetchedFrom = "cache"     // it had shown it before, and nobody asked
)

// shortFrom is how a place is written in a header.
var shortFrom = map[FetchedFrom]string{FromSource: "", FromUnchanged: "u", FromShared: "s", FromCache: "c"}

// maxFetches bounds the fetches in a header.
const maxFetches = 16

// Fetches is how an event's records were got. It is written as one header, such
// as "record,200,1,34;customer,200,0,12,c": status, tries, milliseconds, and c
// from the cache, s shared, u unchanged. Of more than 16 the rest is left out.
type Fetches []Fetch

// String gives f as a header's value.
func (f Fetches) String() string {
	b := make([]byte, 0, 24*min(len(f), maxFetches))
	for i, one := range f[:min(len(f), maxFetches)] {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, Escape(one.Name)...)
		for _, n := range [...]int64{int64(one.Status), int64(one.Tries), one.Took.Milliseconds()} {
			b = strconv.AppendInt(append(b, ','), n, 10)
		}
		if short := shortFrom[one.From]; short != "" {
			b = append(append(b, ','), short...)
		}
	}
	return string(b)
}

// ParseFetches reads a header's value. The error means that something else wrote
// it.
func ParseFetches(text string) (Fetches, error) {
	if text == "" {
		return nil, nil
	}
	var all Fetches
	for part := range strings.SplitSeq(text, ";") {
		if len(all) == maxFetches {
			return nil, fmt.Errorf("header %s: more than %d records", HeaderFetched, maxFetches)
		}
		one, err := parseFetch(part)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func parseFetch(text string) (Fetch, error) {
	fail := fmt.Errorf("header %s: want NAME,STATUS,TRIES,MILLISECONDS and perhaps c, s or u", HeaderFetched)
	words := strings.Split(text, ",")
	if len(words) < 4 || len(words) > 5 {
		return Fetch{}, fail
	}
	var n [3]int64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(words[i+1], 10, 32); err != nil || n[i] < 0 {
			return Fetch{}, fail
		}
	}
	name, err := Unescape(words[0])
	if err != nil || name == "" {
		return Fetch{}, fail
	}
	f := Fetch{Name: name, Status: int(n[0]), Tries: int(n[1]), Took: time.Duration(n[2]) * time.Millisecond, From: FromSource}
	if len(words) == 4 {
		return f, nil
	}
	for from, short := range shortFrom {
		if short == words[4] && short != "" {
			f.From = from
			return f, nil
		}
	}
	return Fetch{}, fail
}
