package signature

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

// Sign returns the headers that a sender of this scheme adds to a request with
// that body: the signature, and where the scheme has them, id and timestamp.
// The id has to be one that an HTTP header carries unchanged. A scheme with
// {header:Name} needs [Verifier.SignRequest].
//
// It returns nil for a Key that [ParseKey] didn't make for this algorithm.
func (v *Verifier) Sign(k Key, body []byte, id string, at time.Time) http.Header {
	return v.SignRequest(k, Request{Body: body}, id, at)
}

// SignRequest is [Verifier.Sign] for a request that already has headers, which
// {header:Name} stands for. It returns the headers to add and doesn't change r.
// It also returns nil when one of the named headers is absent, empty or
// repeated.
func (v *Verifier) SignRequest(k Key, r Request, id string, at time.Time) http.Header {
	if !k.fits(v.scheme.Algorithm) {
		return nil
	}
	m := message{request: r, id: id}
	added := make(http.Header, 3)
	if v.idHeader != "" {
		added[v.idHeader] = []string{id}
	}
	if v.scheme.timed() {
		m.timestamp = v.scheme.TimestampUnit.text(at)
	}
	if v.tsHeader != "" {
		added[v.tsHeader] = []string{m.timestamp}
	}
	for _, s := range v.segments {
		if s.kind != header {
			continue
		}
		if _, err := r.single(StepSigned, s.text); err != nil {
			return nil
		}
	}
	c := k.sum(v.segments, &m)
	added[v.header] = []string{v.headerValue(m.timestamp, c.sum)}
	k.release(c)
	return added
}

// headerValue is the inverse of parseRaw and parseList.
func (v *Verifier) headerValue(timestamp string, sum []byte) string {
	s := &v.scheme
	encoded := hex.EncodeToString(sum)
	if s.Encoding == Base64 {
		encoded = base64.StdEncoding.EncodeToString(sum)
	}
	if s.Format == Raw {
		return s.Prefix + encoded
	}
	value := s.SignatureKey + s.PairSeparator + encoded
	if s.TimestampKey != "" {
		value = s.TimestampKey + s.PairSeparator + timestamp + s.ListSeparator + value
	}
	return value
}

// text is the inverse of at.
func (u Unit) text(t time.Time) string {
	if u == Milliseconds {
		return strconv.FormatInt(t.UnixMilli(), 10)
	}
	return strconv.FormatInt(t.Unix(), 10)
}
