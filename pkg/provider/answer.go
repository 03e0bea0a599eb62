package provider

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/field"
)

// Page is one page of a list as it was answered.
type Page struct {
	// Records are slices of the answer, in the list's order.
	Records [][]byte
	// Next is the position of the next page; "" says that this was the last.
	Next string
	// TooMany says that the API has more records between the ends that it was
	// asked for than it will list.
	TooMany bool
	// Total is how many records the list has, as far as the API says, else 0.
	Total int
}

// Page reads the answer to a request. Base is that of the API. What an answer
// lacks never passes for the end of a list where the shape says that it must be
// there; that a GraphQL answer has no errors is for the caller to know. Its own
// errors quote nothing that the API wrote, and are permanent.
func (r *Reconcile) Page(a PageRequest, base string, h http.Header, body []byte) (Page, error) {
	var p Page
	var err error
	if p.Records, err = r.Records(body); err != nil {
		return Page{}, fault.Permanent(fmt.Errorf("no records under items: %w", err))
	}
	if r.Next.Of == First {
		slices.Reverse(p.Records)
	}
	if p.Next, err = r.next(a, base, h, body, p.Records); err != nil {
		return Page{}, fault.Permanent(err)
	}
	if r.Slice.Most > 0 {
		total, err := count(r.Slice.total, body)
		if err != nil {
			return Page{}, fault.Permanent(fmt.Errorf("slice.total: %w", err))
		}
		p.TooMany = total > r.Slice.Most
		if r.Next.Counted() && a.Front+len(p.Records) >= total {
			p.Next = ""
		}
	}
	p.Total = r.totalIn(a, body)
	if len(p.Next) > maxPosition {
		return Page{}, fault.Permanent(fmt.Errorf("next: over %d bytes", maxPosition))
	}
	return p, nil
}

// totalIn is how many records the list has. What can't be read is not known:
// nothing but an estimate rests on it.
func (r *Reconcile) totalIn(a PageRequest, body []byte) int {
	switch {
	case r.Total != "":
		total, _ := count(r.total, body)
		return total
	case r.Next.Pages != "":
		pages, _ := count(r.Next.pages, body)
		return pages * a.Want
	default:
		return 0
	}
}

func (r *Reconcile) next(a PageRequest, base string, h http.Header, body []byte, records [][]byte) (string, error) {
	switch x := r.Next; x.shape {
	case ByCursor, Connection:
		return x.cursorIn(body)
	case ByOffset:
		if len(records) == 0 {
			return "", nil
		}
		return strconv.Itoa(a.Front + len(records) - Overlap(len(records))), nil
	case ByPage:
		return x.pageAfter(a, body, len(records))
	case ByLink:
		return x.linkIn(a, base, h, body)
	case ByLastID:
		return x.lastID(body, records)
	default:
		return "", nil
	}
}

// cursorIn returns the next page's cursor in an answer, or "" at the end.
func (x Next) cursorIn(body []byte) (string, error) {
	if x.More != "" {
		if more, err := x.moreIn(body); err != nil || !more {
			return "", err
		}
	}
	cursor, err := textAt(x.cursor, body)
	if err == nil && cursor == "" && x.More != "" {
		err = errors.New("next: more pages, but no cursor")
	}
	return cursor, err
}

func (x Next) moreIn(body []byte) (bool, error) {
	v, err := x.more.One(body)
	if err != nil {
		return false, fmt.Errorf("next.more: %w", err)
	}
	if k := v.Kind(); k != 't' && k != 'f' {
		return false, errors.New("next.more: want a boolean")
	}
	return v.Kind() == 't', nil
}

func (x Next) pageAfter(a PageRequest, body []byte, records int) (string, error) {
	if x.Pages != "" {
		pages, err := count(x.pages, body)
		if err != nil {
			return "", fmt.Errorf("next.pages: %w", err)
		}
		if a.number+1 >= pages {
			return "", nil
		}
	}
	if records == 0 && x.Pages == "" {
		return "", nil
	}
	if records == 0 { // there is more, it says
		records = a.Want
	}
	return strconv.Itoa(a.Front + records), nil
}

func (x Next) linkIn(a PageRequest, base string, h http.Header, body []byte) (string, error) {
	var link string
	var err error
	if x.Link == LinkHeader {
		link, err = NextLink(h.Values("Link"))
	} else {
		link, err = textAt(x.link, body)
	}
	if err != nil || link == "" {
		return "", err
	}
	path := a.Path
	if len(a.Query) > 0 {
		path += "?" + a.Query.Encode()
	}
	return Below(base, path, link)
}

// lastID is the id of the record nearest to the page's end that has one.
func (x Next) lastID(body []byte, records [][]byte) (string, error) {
	if x.More != "" {
		more, err := x.moreIn(body)
		if err != nil || !more {
			return "", err
		}
		if len(records) == 0 {
			return "", errors.New("next: more pages, but no record to go on from")
		}
	}
	var err error
	for _, record := range slices.Backward(records) {
		var id string
		if id, err = x.Value.In(record); err == nil {
			return id, nil
		}
	}
	return "", err
}

// textAt is the text at a path, or "" where there is none.
func textAt(p field.Path, body []byte) (string, error) {
	v, err := p.One(body)
	if err == nil {
		var text string
		if text, err = field.Text(v); err == nil {
			return text, nil
		}
	}
	if isMissing(err) {
		return "", nil
	}
	return "", fmt.Errorf("next: %w", err)
}

func count(p field.Path, body []byte) (int, error) {
	v, err := p.One(body)
	if err != nil {
		return 0, err
	}
	text, err := field.Text(v)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, errors.New("want a number")
	}
	return int(n), nil
}
