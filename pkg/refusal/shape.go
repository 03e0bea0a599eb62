package refusal

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of a shape: it is for people, and made of what a stranger sent.
const (
	maxShapeBody  = 1 << 20 // a larger body isn't looked into
	maxShapeNames = 100
	maxShapeDepth = 6
	maxShapeName  = 64 // bytes
)

// ShapeOf returns a JSON body with the type of each value in its place, such as
// {"id":"string","lines":[{"sku":"string"}]}. Of an array it has the first
// element, of a large or deep body the beginning, after which "…" stands. It
// returns nil for what isn't JSON.
func ShapeOf(body []byte) jsontext.Value {
	if len(body) > maxShapeBody {
		return nil
	}
	s := shaper{dec: jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))}
	if s.value(0) != nil {
		return nil
	}
	return s.out
}

type shaper struct {
	dec   *jsontext.Decoder
	out   []byte
	names int
}

func (s *shaper) value(depth int) error {
	kind := s.dec.PeekKind()
	if (kind == '{' || kind == '[') && depth < maxShapeDepth {
		if _, err := s.dec.ReadToken(); err != nil {
			return err
		}
		if kind == '{' {
			return s.object(depth)
		}
		return s.array(depth)
	}
	if err := s.dec.SkipValue(); err != nil {
		return err
	}
	name := map[jsontext.Kind]string{'"': "string", '0': "number", 't': "boolean", 'f': "boolean", 'n': "null", '{': "object", '[': "array"}[kind]
	s.out = append(append(append(s.out, '"'), name...), '"')
	return nil
}

func (s *shaper) object(depth int) error {
	s.out = append(s.out, '{')
	for n := 0; s.dec.PeekKind() != '}'; n++ {
		name, err := s.dec.ReadToken()
		if err != nil {
			return err
		}
		if s.names >= maxShapeNames {
			if err := s.dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		if s.names++; n > 0 {
			s.out = append(s.out, ',')
		}
		text := name.String()
		if len(text) > maxShapeName {
			text = text[:maxShapeName] + "…"
		}
		if s.names == maxShapeNames {
			text = "…"
		}
		s.out, _ = jsontext.AppendQuote(s.out, text)
		s.out = append(s.out, ':')
		if err := s.value(depth + 1); err != nil {
			return err
		}
	}
	s.out = append(s.out, '}')
	_, err := s.dec.ReadToken()
	return err
}

func (s *shaper) array(depth int) error {
	s.out = append(s.out, '[')
	for n := 0; s.dec.PeekKind() != ']'; n++ {
		var err error
		switch n {
		case 0:
			err = s.value(depth + 1)
		default:
			err = s.dec.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	s.out = append(s.out, ']')
	_, err := s.dec.ReadToken()
	return err
}
