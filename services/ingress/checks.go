package ingress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
)

// firstBuffer is the most memory and the most of the room that a Content-Length alone
// is given: who announces a large body has to send it first.
const firstBuffer = 64 << 10

// maxMediaType bounds a Content-Type, which becomes a header of the message.
const maxMediaType = 256

// mediaTypeJSON is that of nearly all events.
const mediaTypeJSON = "application/json"

// inspection is one request on its way through the checks, and what they have
// found so far.
type inspection struct {
	request *http.Request
	writer  http.ResponseWriter // nil in Explain
	routes  map[string]*route
	proxies []provider.Network // those that are trusted
	now     time.Time
	began   time.Time     // by the system's own clock; zero in Explain
	read    time.Duration // from then until the body had come

	trace       trace.SpanContext // its exemplar's; zero where it was let in by no route
	route       *route
	stay        stay // in the service's room
	account     string
	pathNames   bool              // the path names the account
	tenant      *provider.Account // nil while no account is known
	contentType string
	mediaType   string
	encoding    provider.Encoding
	received    []byte            // the body as it came
	body        []byte            // what it says
	scan        *field.Scan       // of the body; nil before its structure was checked, and where nothing looks into it
	docs        map[string][]byte // what expressions look into; see scope
	header      func(name string) string
	requestID   string // of the request's own message, where its bytes are no event's; else ""
	items       []item // the events; none before the request was split
	single      [1]item
	strays      strays
	senderKey   signature.SenderKey // that the request names, where its scheme has such keys
	match       signature.Match     // how it was found to be genuine
	kept        string              // of the request beside its body, see evidence

	// How the events' attributes are found.
	typ, id, time provider.TriggerExpr

	buffer  []byte   // has received
	text    []byte   // for texts that are put together
	trigger *trigger // where there is one event; nil before the first one
	settled bool     // the message and the body are nobody else's any more; see reuse

	onlyHandshake bool                     // events have another content type
	handshake     *provider.NamedHandshake // that was answered, with what follows; nil for an event
	response      provider.Response
	brought       string
}

// check is one thing that a request must pass.
type check struct {
	name string
	run  func(*inspection) *refusal
	// detail says for people what a request that passed has there.
	detail func(*inspection) string
}

// Names of the checks that Explain treats apart.
const (
	checkNameOrigin      = "origin"
	checkNameBody        = "body"
	checkNameDecodeFirst = "decompression"
	checkNameDecode      = "decompression of what is verified"
	checkNameUnsigned    = "unsigned handshake"
	checkNameSignature   = "signature"
	checkNameSkipped     = "signature, skipped"
	checkNameSigned      = "handshake"
	checkNameAccount     = "account"
	checkNameSchema      = "schema"
	checkNameSplit       = "split"
)

// doorChecks come before a request takes up any room, roomyChecks after, or
// bareChecks if it has no body. A new check is a line here. A handshake ends at
// the check that has answered it.
var (
	doorChecks = []check{
		{"path", (*inspection).checkPath, func(in *inspection) string { return "source " + in.route.name + ", account " + in.account }},
		{"method", (*inspection).checkMethod, func(in *inspection) string { return in.request.Method }},
		{checkNameOrigin, (*inspection).checkOrigin, (*inspection).originDetail},
	}
	roomyChecks = []check{
		{"content encoding", (*inspection).checkEncoding, (*inspection).encodingDetail},
		{"content length", (*inspection).checkLength, (*inspection).lengthDetail},
		{"content type", (*inspection).checkMediaType, func(in *inspection) string { return in.mediaType }},
		{checkNameBody, (*inspection).readBody, func(in *inspection) string { return fmt.Sprintf("%d bytes", len(in.received)) }},
		{checkNameDecodeFirst, (*inspection).decodeFirst, (*inspection).decodeDetail},
		{checkNameUnsigned, (*inspection).answerUnsigned, (*inspection).handshakeDetail},
		{checkNameSignature, (*inspection).checkSignature, func(*inspection) string { return "" }},
		{checkNameDecode, (*inspection).decodeVerified, (*inspection).decodeDetail},
		{"structure", (*inspection).checkStructure, (*inspection).structureDetail},
		{checkNameSigned, (*inspection).answerSigned, (*inspection).handshakeDetail},
		{checkNameAccount, (*inspection).checkAccount, (*inspection).accountDetail},
		{checkNameSplit, (*inspection).split, (*inspection).splitDetail},
		{"event type", (*inspection).readType, (*inspection).typeDetail},
		{"event id", (*inspection).readID, (*inspection).idDetail},
		{"event time", (*inspection).readTime, (*inspection).timeDetail},
		{checkNameSchema, (*inspection).checkSchema, (*inspection).schemaDetail},
	}
	bareChecks = []check{
		{checkNameUnsigned, (*inspection).answerUnsigned, (*inspection).handshakeDetail},
		{checkNameSignature, (*inspection).checkSignature, func(*inspection) string { return "" }},
		{checkNameSigned, (*inspection).answerSigned, (*inspection).handshakeDetail},
	}
)

// checksInside are those that come behind the door. Only events have a body.
func (in *inspection) checksInside() []check {
	if in.request.Method == http.MethodPost {
		return roomyChecks
	}
	return bareChecks
}

// inspect makes checks in their order. It returns the first refusal, or nil;
// passed, if it isn't nil, hears of each check that was passed.
func (in *inspection) inspect(checks []check, passed func(check)) *refusal {
	for i := range checks {
		if no := checks[i].run(in); no != nil {
			no.check = checks[i].name
			return no
		}
		if passed != nil {
			passed(checks[i])
		}
		if in.handshake != nil {
			return nil
		}
	}
	return nil
}

func (in *inspection) maxBody() int64 { return int64(in.route.source.Request.MaxBody) }

func (in *inspection) checkLength() *refusal {
	if in.request.ContentLength > in.maxBody() {
		return tooLarge(fmt.Sprintf("a body of %d bytes is announced, max_body is %d", in.request.ContentLength, in.maxBody()))
	}
	return nil
}

func (in *inspection) lengthDetail() string {
	if in.request.ContentLength < 0 {
		return "not announced"
	}
	return fmt.Sprintf("%d bytes, at most %d", in.request.ContentLength, in.maxBody())
}

func (in *inspection) checkMediaType() *refusal {
	values := in.request.Header["Content-Type"]
	if len(values) > 1 {
		return typeRefused("more than one content type")
	}
	if len(values) == 1 {
		in.contentType = values[0]
	}
	if in.contentType == "" {
		in.contentType = "application/octet-stream"
	}
	if len(in.contentType) > maxMediaType || !utf8.ValidString(in.contentType) {
		return typeRefused(fmt.Sprintf("content type is not UTF-8 of at most %d bytes", maxMediaType))
	}
	var params map[string]string
	var err error
	if in.contentType == mediaTypeJSON {
		in.mediaType = mediaTypeJSON // needn't be parsed
	} else if in.mediaType, params, err = mime.ParseMediaType(in.contentType); err != nil {
		return typeRefused("malformed content type")
	}
	if set := params["charset"]; set != "" && !strings.EqualFold(set, "utf-8") && !strings.EqualFold(set, "us-ascii") {
		return typeRefused("a charset other than utf-8")
	}
	if in.route.source.Takes(in.mediaType) {
		return nil
	}
	if in.onlyHandshake = in.route.forms && in.mediaType == mediaTypeForm; !in.onlyHandshake {
		return in.typeNotTaken()
	}
	return nil
}

func (in *inspection) typeNotTaken() *refusal {
	return typeRefused(fmt.Sprintf("content type %q, request.content_types doesn't have it", in.mediaType))
}

func typeRefused(reason string) *refusal {
	return &refusal{
		status: http.StatusUnsupportedMediaType, outcome: refusedType, text: "content type not taken", reason: reason,
	}
}

// readBody reads the body, the only time.
func (in *inspection) readBody() *refusal {
	no, err := in.fill(http.MaxBytesReader(in.writer, in.request.Body, in.maxBody()))
	if !in.stay.arrived() {
		no = crowded("another sender's turn")
		no.header, no.value = "Connection", "close"
	}
	in.received, in.body = in.buffer, in.buffer
	var large *http.MaxBytesError
	switch {
	case no != nil:
		hurry(in.writer)
		return no
	case err == nil:
		_ = in.request.Body.Close() // else net/http looks for what is left of it
		if !in.captured() {
			in.read = time.Since(in.began)
		}
		return nil
	case errors.As(err, &large):
		return tooLarge(fmt.Sprintf("the body is larger than max_body, %d bytes", in.maxBody()))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{
			status: http.StatusRequestTimeout, outcome: refusedStructure, text: "the body came too slowly",
			reason: "the body did not end within read_timeout", header: "Connection", value: "close",
		}
	default:
		return &refusal{
			status: http.StatusBadRequest, outcome: refusedStructure, text: "the body is incomplete",
			reason: "the body was cut or its framing is wrong", header: "Connection", value: "close",
		}
	}
}

// firstSize is how large the buffer is before any of the body has come.
func (in *inspection) firstSize() int64 {
	return min(max(in.request.ContentLength, bytes.MinRead), firstBuffer)
}

// wholeSize is how large the body may become.
func (in *inspection) wholeSize() int64 {
	if n := in.request.ContentLength; n >= 0 {
		return min(n, in.maxBody())
	}
	return in.maxBody()
}

// fill reads the buffer full, which is as large as the body is announced to be
// and not larger: there is one for each request in hand. It grows with what comes,
// and is refused where the room has no more.
func (in *inspection) fill(body io.Reader) (*refusal, error) {
	if n := int(in.firstSize()); cap(in.buffer) < n {
		in.buffer = make([]byte, 0, n)
	}
	for {
		if len(in.buffer) == cap(in.buffer) {
			if no := in.grow(); no != nil {
				return no, nil
			}
		}
		n, err := body.Read(in.buffer[len(in.buffer):cap(in.buffer)])
		in.buffer = in.buffer[:len(in.buffer)+n]
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// grow makes the buffer twice as large, but no larger than what can come.
func (in *inspection) grow() *refusal {
	have, most := int64(cap(in.buffer)), in.maxBody()
	if n := in.request.ContentLength; n > have {
		most = min(n, most)
	}
	size := max(min(2*have, most), have+bytes.MinRead)
	if no := in.stay.more(size - in.stay.load[memory]); no != nil {
		return no
	}
	in.buffer = append(make([]byte, 0, size), in.buffer...)
	return nil
}

// checkSignature upholds promise 2. The sender isn't told what was wrong.
func (in *inspection) checkSignature() *refusal {
	if no := in.fetchSenderKey(); no != nil {
		return no
	}
	var err error
	if in.match, err = in.verify(in.keys()); err != nil {
		return in.refusedSignature(err)
	}
	return nil
}

func (in *inspection) refusedSignature(err error) *refusal {
	no := &refusal{
		status: http.StatusUnauthorized, outcome: refusedSignature, text: "signature not accepted", reason: err.Error(),
	}
	if status := in.route.source.Reply.Refused; status != 0 {
		no.status = status
	}
	var failed *signature.Error
	if errors.As(err, &failed) {
		no.step, no.reason = failed.Step, failed.Err.Error()+": "+failed.Reason
	}
	return no
}

func (in *inspection) verify(keys []signature.Key) (signature.Match, error) {
	return in.route.source.CheckSignature(in.signed(), keys, in.now)
}

// signed is the request as its signature covers it.
func (in *inspection) signed() signature.Request {
	signed := in.body
	if in.request.Method != http.MethodPost {
		// What else is there to sign? Otherwise one captured signature would do for
		// every query.
		signed = []byte(in.request.URL.RawQuery)
	}
	return signature.Request{
		Header: in.request.Header, Body: signed, Method: in.request.Method,
		URL: in.route.source.CalledURL(in.account, in.request.URL.RawQuery), Sender: in.senderKey,
	}
}

// checkStructure demands strict JSON where an expression looks into the body:
// of a doubled name, two readers could take two different values.
func (in *inspection) checkStructure() *refusal {
	if !in.route.needsJSON {
		return nil
	}
	var err error
	if in.scan, err = field.NewScan("body", in.body, in.route.paths); err != nil {
		return &refusal{status: http.StatusBadRequest, outcome: refusedStructure, text: err.Error(), reason: err.Error()}
	}
	return nil
}

func (in *inspection) structureDetail() string {
	if in.route.needsJSON {
		return "strict JSON"
	}
	return "any bytes: no expression looks into the body"
}

func tooLarge(reason string) *refusal {
	return &refusal{
		status: http.StatusRequestEntityTooLarge, outcome: refusedSize, text: "the request is too large", reason: reason,
	}
}
