package signature_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/tercelhq/tercel/pkg/signature"
)

func Example() {
	scheme := signature.Scheme{
		Algorithm: signature.HMACSHA256,
		Header:    "X-Signature",
		Signed:    "{timestamp}.{body}",
		Timestamp: "X-Timestamp",
	}
	v, err := signature.Compile(scheme)
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := signature.ParseKey(scheme, "an example secret of the docs")
	if err != nil {
		fmt.Println(err)
		return
	}

	at := time.Unix(1760000000, 0)
	body := []byte(`{"type":"order.paid"}`)
	r := signature.Request{Header: v.Sign(key, body, "", at), Body: body}
	fmt.Println(key, r.Header.Get("X-Signature")[:8])

	fmt.Println(v.Verify(r, []signature.Key{key}, at.Add(time.Minute)))
	fmt.Println(v.Verify(r, []signature.Key{key}, at.Add(time.Hour)))

	r.Body = []byte(`{"type":"order.void"}`)
	err = v.Verify(r, []signature.Key{key}, at)
	fmt.Println(errors.Is(err, signature.ErrMismatch), err)
	// Output:
	// [redacted] ca9d00f8
	// <nil>
	// timestamp window: stale: signed at 2025-10-09T08:53:20Z, checked at 2025-10-09T09:53:20Z, tolerance 5m0s
	// true signature match: mismatch: none of the signatures (1) was made with one of the keys (1)
}

// A scheme's faults are reported together, by the keys of the pipeline file.
func ExampleCompile() {
	_, err := signature.Compile(signature.Scheme{
		Algorithm: "md5",
		Header:    "X-Signature",
		Signed:    "{timestamp}",
	})
	fmt.Println(err)
	// Output:
	// scheme: "md5", want one of hmac-sha256, hmac-sha512, hmac-sha1, sha256, ed25519, ecdsa-p256-sha256, jwt-hs256, jwt-es256, rsa-sha256, rsa-sha256-or-sha1, token, bearer, basic, none
	// signed: "{timestamp}", want {body} exactly once: a body that isn't signed can be anyone's
	// signed: "{timestamp}", want no {timestamp}, or timestamp or timestamp_key as well
}
