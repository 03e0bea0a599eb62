package signature_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/tercelhq/tercel/pkg/signature"
)

// Every fault of a scheme is reported at once, by its YAML key.
func TestCompileFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		scheme string
		want   []string // keys
	}{
		"nothing":                      {`{}`, []string{"scheme", "header"}},
		"unknown names":                {`{scheme: md5, header: S, format: csv, encoding: ascii85, key: {encoding: rot13}, timestamp: T, timestamp_unit: h, signed: "{timestamp}{body}"}`, []string{"scheme", "format", "encoding", "key.encoding", "timestamp_unit"}},
		"scheme in upper case":         {`{scheme: HMAC-SHA256, header: S}`, []string{"scheme"}},
		"impossible header names":      {`{scheme: hmac-sha256, header: "X Y", id: "é", timestamp: "a:b", signed: "{id}{timestamp}{body}"}`, []string{"header", "id", "timestamp"}},
		"header that Go moves away":    {`{scheme: hmac-sha256, header: host}`, []string{"header"}},
		"one header for two things":    {`{scheme: hmac-sha256, header: S, timestamp: s, id: s, signed: "{id}{timestamp}{body}"}`, []string{"id", "timestamp"}},
		"list fields in a raw scheme":  {`{scheme: hmac-sha256, header: S, list_separator: ",", pair_separator: "=", signature_key: v1}`, []string{"list_separator", "pair_separator", "signature_key"}},
		"time key in a raw scheme":     {`{scheme: hmac-sha256, header: S, timestamp_key: t, signed: "{timestamp}.{body}"}`, []string{"timestamp_key"}},
		"prefix with a space":          {`{scheme: hmac-sha256, header: S, prefix: "sha256= "}`, []string{"prefix"}},
		"prefix in a list":             {`{scheme: hmac-sha256, header: S, format: pairs, signature_key: v1, prefix: sha256=}`, []string{"prefix"}},
		"list without signature key":   {`{scheme: hmac-sha256, header: S, format: tokens}`, []string{"signature_key"}},
		"separators inside signatures": {`{scheme: hmac-sha256, header: S, format: pairs, signature_key: v1, list_separator: "=", pair_separator: "a"}`, []string{"list_separator", "pair_separator"}},
		"long separators":              {`{scheme: hmac-sha256, header: S, format: pairs, signature_key: v1, list_separator: ", ", pair_separator: ":="}`, []string{"list_separator", "pair_separator"}},
		"equal separators":             {`{scheme: hmac-sha256, header: S, format: pairs, signature_key: v1, list_separator: ";", pair_separator: ";"}`, []string{"pair_separator"}},
		"keys with separators":         {`{scheme: hmac-sha256, header: S, format: pairs, signature_key: "v=1", timestamp_key: "t,", signed: "{timestamp}.{body}"}`, []string{"signature_key", "timestamp_key"}},
		"one key for two things":       {`{scheme: hmac-sha256, header: S, format: pairs, signature_key: t, timestamp_key: t, signed: "{timestamp}.{body}"}`, []string{"timestamp_key"}},
		"two timestamps":               {`{scheme: hmac-sha256, header: S, format: pairs, signature_key: v, timestamp_key: t, timestamp: T, signed: "{timestamp}.{body}"}`, []string{"timestamp_key"}},
		"negative tolerance":           {`{scheme: hmac-sha256, header: S, timestamp: T, tolerance: -1s, signed: "{timestamp}.{body}"}`, []string{"tolerance"}},
		"time fields without a time":   {`{scheme: hmac-sha256, header: S, timestamp_unit: ms, tolerance: 1m}`, []string{"timestamp_unit", "tolerance"}},
		"body not signed":              {`{scheme: hmac-sha256, header: S, id: I, signed: "{id}"}`, []string{"signed"}},
		"body signed twice":            {`{scheme: hmac-sha256, header: S, signed: "{body}{body}"}`, []string{"signed"}},
		"timestamp not signed":         {`{scheme: hmac-sha256, header: S, timestamp: T}`, []string{"signed"}},
		"id not signed":                {`{scheme: hmac-sha256, header: S, id: I}`, []string{"signed"}},
		"timestamp from nowhere":       {`{scheme: hmac-sha256, header: S, signed: "{timestamp}.{body}"}`, []string{"signed"}},
		"id from nowhere":              {`{scheme: hmac-sha256, header: S, signed: "{id}.{body}"}`, []string{"signed"}},
		"unknown placeholder":          {`{scheme: hmac-sha256, header: S, signed: "{uri}{body}"}`, []string{"signed"}},
		"nothing about the body":       {`{scheme: hmac-sha256, header: S, signed: "{json:a}"}`, []string{"signed"}},
		"a part, and the whole":        {`{scheme: hmac-sha256, header: S, signed: "{json:a}{body}", partial_body: true}`, []string{"partial_body"}},
		"no part":                      {`{scheme: hmac-sha256, header: S, signed: "x", partial_body: true}`, []string{"partial_body"}},
		"two ways to sign the body":    {`{scheme: hmac-sha256, header: S, signed: "{body}{body_sha256}"}`, []string{"signed"}},
		"many values":                  {`{scheme: hmac-sha256, header: S, signed: "{json:a[].b}", partial_body: true}`, []string{"signed"}},
		"time that isn't signed":       {`{scheme: hmac-sha256, header: S, signed: "{json:a}", timestamp: body.t, partial_body: true}`, []string{"signed"}},
		"signature in three places":    {`{scheme: hmac-sha256, header: S, header_series: S-, signature: body.s}`, []string{"header"}},
		"signature in a header's name": {`{scheme: hmac-sha256, signature: S}`, []string{"signature"}},
		"second header without first":  {`{scheme: hmac-sha256, signature: body.s, second_header: T}`, []string{"second_header"}},
		"signature of the series":      {`{scheme: hmac-sha256, header_series: S-, signed: "{header:s-1}{body}"}`, []string{"signed"}},
		"none, by accident":            {`{scheme: none}`, []string{"insecure"}},
		"none with a header":           {`{scheme: none, insecure: true, header: S}`, []string{"header"}},
		"insecure with a signature":    {`{scheme: hmac-sha256, header: S, insecure: true}`, []string{"insecure"}},
		"token that signs":             {`{scheme: token, header: S, signed: "{body}"}`, []string{"signed"}},
		"bearer with a time":           {`{scheme: bearer, timestamp: T, tolerance: 1m}`, []string{"timestamp", "tolerance"}},
		"token without a header":       {`{scheme: token}`, []string{"header"}},
		"jwt without a body":           {`{scheme: jwt-es256, header: S}`, []string{"body_hash_claim"}},
		"short keys":                   {`{scheme: hmac-sha256, header: S, key: {min_bytes: 4}}`, []string{"key.min_bytes"}},
		"placeholder in upper case":    {`{scheme: hmac-sha256, header: S, signed: "{Body}"}`, []string{"signed"}},
		"open brace":                   {`{scheme: hmac-sha256, header: S, signed: "{body}{"}`, []string{"signed"}},
		"closing brace":                {`{scheme: hmac-sha256, header: S, signed: "}{body}"}`, []string{"signed"}},
		"nested braces":                {`{scheme: hmac-sha256, header: S, signed: "{{body}}"}`, []string{"signed"}},
		"placeholder without a header": {`{scheme: hmac-sha256, header: S, signed: "{header:}{body}"}`, []string{"signed"}},
		"signature signs itself":       {`{scheme: hmac-sha256, header: X-S, signed: "{header:x-s}{body}"}`, []string{"signed"}},
		"everything":                   {`{scheme: x, header: "", format: pairs, prefix: p, signed: "", tolerance: 1m}`, []string{"scheme", "header", "prefix", "signature_key", "tolerance"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := signature.Compile(scheme(t, tt.scheme))
			if v != nil {
				t.Errorf("Compile() = %v with error %v, want no verifier", v, err)
			}
			var faults signature.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("Compile() = %v, want Faults", err)
			}
			var got []string
			for _, f := range faults {
				got = append(got, f.Key)
				if f.Want == "" || !errors.Is(err, f) {
					t.Errorf("fault %+v, want a text and errors.Is to find it", f)
				}
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Compile() = %v\nfaults %q, want %q", err, got, tt.want)
			}
		})
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []signature.Algorithm{signature.HMACSHA256, signature.HMACSHA512, signature.HMACSHA1, signature.SHA256} {
		for _, encoding := range signature.Encoding("").Values() {
			for _, format := range signature.Format("").Values() {
				s := signature.Scheme{
					Algorithm: algorithm, Header: "S",
					Format: signature.Format(format), Encoding: signature.Encoding(encoding),
				}
				if s.Format != signature.Raw {
					s.SignatureKey = "v1"
				}
				v, err := signature.Compile(s)
				if err != nil {
					t.Fatalf("Compile(%+v) = %v", s, err)
				}
				k, err := signature.ParseKey(s, secret)
				if err != nil {
					t.Fatal(err)
				}
				r := signature.Request{Header: v.Sign(k, nil, "", at)}
				if err := v.Verify(r, []signature.Key{k}, at); err != nil {
					t.Errorf("Verify(Sign()) of %+v = %v", s, err)
				}
			}
		}
	}
}
