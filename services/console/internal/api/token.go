package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// Page tokens and plan tokens hold numbers and a hash of them together with the
// request that they belong to. Any console can read any other's, and one that was
// made up, cut or used with another request is told. It is no signature and needs
// to be none: whoever computed such a hash would only have said where to go on in
// what they may read anyway.

// tokenKind keeps tokens of one kind from being taken for another's, and their
// next form from this one.
type tokenKind byte

const (
	pageToken tokenKind = 1
	planToken tokenKind = 2
)

const hashBytes = 16

// seal makes a token.
func seal(kind tokenKind, of proto.Message, numbers ...uint64) string {
	b := []byte{byte(kind)}
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return base64.RawURLEncoding.EncodeToString(append(b, tokenHash(b, of)...))
}

// unseal reads a token of count numbers, if it is one of that request.
func unseal(kind tokenKind, of proto.Message, token string, count int) ([]uint64, bool) {
	want := 1 + 8*count + hashBytes
	if len(token) != base64.RawURLEncoding.EncodedLen(want) {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || b[0] != byte(kind) {
		return nil, false
	}
	head := b[:want-hashBytes]
	if string(tokenHash(head, of)) != string(b[want-hashBytes:]) {
		return nil, false
	}
	numbers := make([]uint64, count)
	for i := range numbers {
		numbers[i] = binary.BigEndian.Uint64(head[1+8*i:])
	}
	return numbers, true
}

// tokenHash covers what chooses: the request without its tokens and what may
// differ from page to page.
func tokenHash(head []byte, of proto.Message) []byte {
	of = proto.Clone(of)
	m := of.ProtoReflect()
	for _, name := range []protoreflect.Name{"page_token", "page_size"} {
		if f := m.Descriptor().Fields().ByName(name); f != nil {
			m.Clear(f)
		}
	}
	text, _ := proto.MarshalOptions{Deterministic: true}.Marshal(of) // what was unmarshalled can be marshalled
	h := sha256.New()
	fmt.Fprintf(h, "%s %d ", m.Descriptor().FullName(), len(head))
	h.Write(head)
	h.Write(text)
	return h.Sum(nil)[:hashBytes]
}

// paged is a request for one page of a list.
type paged interface {
	proto.Message
	GetPageSize() uint32
	GetPageToken() string
}

// Bounds of pages.
const (
	defaultPage = 50
	maxPage     = 500
)

// page reads where a page begins (below a number, 0 is the end of the list) and
// how long it is.
func page(req paged) (before uint64, size int, err error) {
	size = int(req.GetPageSize())
	if size > maxPage {
		return 0, 0, invalid("page_size", "at most 500")
	}
	if size == 0 {
		size = defaultPage
	}
	if req.GetPageToken() == "" {
		return 0, size, nil
	}
	numbers, ok := unseal(pageToken, req, req.GetPageToken(), 1)
	if !ok || numbers[0] == 0 {
		return 0, 0, withInfo(connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("page_token: none that was given out for this request; begin again without one")),
			&adminv1.ErrorInfo{Reason: adminv1.Reason_REASON_INVALID_PAGE_TOKEN, Field: "page_token", Want: "the next_page_token of the page before, with the same filter"})
	}
	return numbers[0], size, nil
}

// nextPage is the token of the page that begins below a number, or "" for 0.
func nextPage(req paged, before uint64) string {
	if before == 0 {
		return ""
	}
	return seal(pageToken, req, before)
}

// planFor is how long a plan is good.
const planFor = 15 * time.Minute

// A plan of what is stored up to through, and how many of that were chosen.
type plan struct {
	through, count uint64
}

// sealPlan makes the token of a plan for what was chosen by a message.
func (a *API) sealPlan(of proto.Message, p plan) string {
	return seal(planToken, of, uint64(a.deps.Now().Add(planFor).Unix()), p.through, p.count)
}

// openPlan reads it.
func (a *API) openPlan(of proto.Message, token string) (plan, error) {
	refused := func(why string) (plan, error) {
		return plan{}, withInfo(connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("plan_token: %s; plan again", why)),
			&adminv1.ErrorInfo{Reason: adminv1.Reason_REASON_INVALID_PLAN, Field: "plan_token", Want: "the plan_token of a plan for the same filter"})
	}
	if token == "" {
		return refused("there is none, and nothing is replayed without a plan")
	}
	numbers, ok := unseal(planToken, of, token, 3)
	switch {
	case !ok:
		return refused("none that was given out for this filter")
	case a.deps.Now().Unix() >= int64(min(numbers[0], 1<<62)):
		return refused("it is older than 15 minutes")
	}
	return plan{numbers[1], numbers[2]}, nil
}
