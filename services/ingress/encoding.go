package ingress

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/tercelhq/tercel/pkg/provider"
)

// Bounds of decompression, beside max_body. A body of events is seldom a
// twentieth of its size when it is compressed; a bomb is a thousandth.
const (
	maxRatio  = 100
	freeBytes = 64 << 10 // may come of anything
)

// checkEncoding takes what the source is said to send.
func (in *inspection) checkEncoding() *refusal {
	values := in.request.Header["Content-Encoding"]
	if len(values) == 0 || len(values) == 1 && (values[0] == "" || strings.EqualFold(values[0], "identity")) {
		return nil
	}
	taken := in.route.source.Request.Encodings
	if len(values) == 1 && strings.EqualFold(values[0], string(provider.Gzip)) && slices.Contains(taken, provider.Gzip) {
		in.encoding = provider.Gzip
		return nil
	}
	no := &refusal{
		status: http.StatusUnsupportedMediaType, outcome: refusedType, text: "encoded bodies are not taken",
		reason: "content encoding other than identity", header: "Accept-Encoding", value: "identity",
	}
	if len(taken) > 0 {
		no.text, no.reason, no.value = "content encoding not taken", "a content encoding that request.encodings doesn't have", string(provider.Gzip)
	}
	return no
}

func (in *inspection) encodingDetail() string {
	if in.encoding == "" {
		return "none"
	}
	return string(in.encoding)
}

// signsDecoded reports whether the signature is over what the body says, and
// not over its bytes as they came.
func (in *inspection) signsDecoded() bool {
	return in.route.source.Request.Signed == provider.SignedDecoded
}

// decodeFirst decodes a body whose signature can't be checked before.
func (in *inspection) decodeFirst() *refusal {
	if !in.signsDecoded() {
		return nil
	}
	return in.decode()
}

// decodeVerified decodes a body that is known to be genuine.
func (in *inspection) decodeVerified() *refusal {
	if in.signsDecoded() {
		return nil
	}
	return in.decode()
}

// decode decompresses the body. The trigger gets the body in clear, as all that
// read it expect; the compressed bytes are stored beside it (promise 8).
func (in *inspection) decode() *refusal {
	if in.encoding == "" {
		return nil
	}
	most := inflated(len(in.received), in.maxBody())
	if no := in.stay.more(most); no != nil { // promise 10
		return no
	}
	body, err := gunzip(in.received, most)
	switch {
	case errors.Is(err, errTooMuch):
		return tooLarge(err.Error())
	case err != nil:
		text := "content encoding: " + err.Error()
		return &refusal{status: http.StatusBadRequest, outcome: refusedStructure, text: text, reason: text}
	}
	in.body = body
	in.setRequestID()
	return nil
}

func (in *inspection) decodeDetail() string {
	return fmt.Sprintf("%d bytes of %d", len(in.body), len(in.received))
}

var errTooMuch = errors.New("too much")

// inflated is how many bytes may come of so many.
func inflated(size int, most int64) int64 {
	return min(most, max(freeBytes, int64(size)*maxRatio))
}

// gunzip decompresses one gzip member that is all of data, into at most most
// bytes (promise 10).
func gunzip(data []byte, most int64) ([]byte, error) {
	rest := bytes.NewReader(data) // an io.ByteReader: no more of it is read than belongs to the member
	z, err := gzip.NewReader(rest)
	if err != nil {
		return nil, gzipError(err)
	}
	z.Multistream(false)
	var out bytes.Buffer
	n, err := out.ReadFrom(io.LimitReader(z, most+1))
	switch {
	case err != nil:
		return nil, gzipError(err)
	case n > most:
		return nil, fmt.Errorf("%w: the body of %d bytes decompresses to more than %d", errTooMuch, len(data), most)
	case rest.Len() > 0:
		return nil, fmt.Errorf("gzip: %d bytes behind the end", rest.Len())
	}
	return out.Bytes(), nil
}

func gzipError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("gzip: cut")
	}
	return errors.New("gzip: damaged")
}
