package signature

import (
	"maps"
	"net/http"
	"strconv"
	"time"
)

// Sign returns the headers that a sender of this scheme adds to a request with
// that body: the signature, and where the scheme has them, id and timestamp.
// The id has to be one that an HTTP header carries unchanged. A scheme with
// {header:Name} needs [Verifier.SignRequest].
//
// It returns nil for a Key that [ParseKey] didn't make for this algorithm, and
// for a scheme that has its signature in the body, that needs a private key, or
// whose signatures are tokens.
func (v *Verifier) Sign(k Key, body []byte, id string, at time.Time) http.Header {
	return v.SignRequest(k, Request{Body: body}, id, at)
}

// SignRequest is [Verifier.Sign] for a request that already has headers, which
// {header:Name} stands for, or a URL. It returns the headers to add and doesn't change r.
// It also returns nil when one of the named headers is absent, empty or
// repeated.
func (v *Verifier) SignRequest(k Key, r Request, id string, at time.Time) http.Header {
	if !k.fits(v.scheme.Algorithm) || v.sources[0].kind != inHeader {
		return nil
	}
	if v.scheme.Algorithm.credential() {
		return v.present(k)
	}
	if v.scheme.Algorithm.hash() == nil {
		return nil
	}
	m := message{request: r, id: id}
	added := make(http.Header, 3)
	if v.id.kind == inHeader {
		added[v.id.name] = []string{id}
	}
	if v.scheme.timed() {
		m.timestamp = v.scheme.TimestampUnit.text(at)
	}
	if v.timestamp.kind == inHeader {
		added[v.timestamp.name] = []string{m.timestamp}
	}
	m.request.Header = maps.Clone(r.Header)
	if m.request.Header == nil {
		m.request.Header = http.Header{}
	}
	maps.Copy(m.request.Header, added)
	if v.timestamp.kind > inHeader { // it is in the body, whatever at says
		var err *Error
		if m.timestamp, err = m.read(StepTimestampHeader, v.timestamp); err != nil {
			return nil
		}
	}
	if err := v.readSegments(&m); err != nil {
		return nil
	}
	c := k.sum(v.segments, &m)
	added[v.sources[0].name] = []string{v.headerValue(m.timestamp, c.sum)}
	k.release(c)
	return added
}

// headerValue is the inverse of parseRaw and parseList.
func (v *Verifier) headerValue(timestamp string, sum []byte) string {
	s := &v.scheme
	encoded := v.encode(sum)
	if s.Format == Raw {
		return s.Prefix + encoded
	}
	name := s.SignatureKey
	if name == anyKey {
		name = "key"
	}
	value := name + s.PairSeparator + encoded
	if s.TimestampKey != "" {
		value = s.TimestampKey + s.PairSeparator + timestamp + s.ListSeparator + value
	}
	return value
}

// text is the inverse of at.
func (u Unit) text(t time.Time) string {
	switch u {
	case RFC3339:
		return t.UTC().Format(time.RFC3339Nano)
	case Milliseconds:
		return strconv.FormatInt(t.UnixMilli(), 10)
	}
	return strconv.FormatInt(t.Unix(), 10)
}

// present returns the header of a sender that shows the secret itself.
func (v *Verifier) present(k Key) http.Header {
	text := v.scheme.credentialText(string(k.state.secret()))
	switch v.scheme.Algorithm {
	case Bearer:
		text = "Bearer " + text
	case Basic:
		text = "Basic " + text
	default:
		text = v.scheme.Prefix + text
	}
	return http.Header{v.sources[0].name: {text}}
}
