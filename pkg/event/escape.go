package event

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789ABCDEF"

// Escape turns any text into one subject token of letters, digits, "-", "_"
// and %XX for every other byte. The empty text is a lone "%", and "_" alone,
// which stands for no account, is escaped unless it is [NoAccount] itself, so
// no two texts share a token. [Unescape] undoes it.
func Escape(text string) string {
	if text == "" {
		return "%"
	}
	return escapeBytes(text, tokenBytes)
}

// Unescape returns the text that [Escape] made token from.
func Unescape(token string) (string, error) {
	if token == "%" {
		return "", nil
	}
	return unescapeBytes(token)
}

// tokenBytes are the bytes that a subject token has as they are.
var tokenBytes = bytesThat(func(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
})

// headerBytes are the bytes that the CloudEvents NATS binding leaves as they
// are: printable ASCII without space, double quote and percent.
var headerBytes = bytesThat(func(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' })

func bytesThat(are func(byte) bool) *[256]bool {
	var set [256]bool
	for c := range set {
		set[c] = are(byte(c))
	}
	return &set
}

func escapeBytes(text string, keep *[256]bool) string {
	plain := 0
	for plain < len(text) && keep[text[plain]] {
		plain++
	}
	if plain == len(text) {
		return text
	}
	var b strings.Builder
	b.Grow(len(text) + 8)
	b.WriteString(text[:plain])
	for i := plain; i < len(text); i++ {
		if c := text[i]; keep[c] {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

func unescapeBytes(text string) (string, error) {
	if !strings.Contains(text, "%") {
		return text, nil
	}
	var b strings.Builder
	b.Grow(len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", errors.New("cut percent escape")
		}
		hi, lo := strings.IndexByte(hexDigits, text[i+1]), strings.IndexByte(hexDigits, text[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("percent escape at byte %d: want two upper-case hex digits", i)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}

func encodeHeader(v string) string { return escapeBytes(v, headerBytes) }

func decodeHeader(v string) (string, error) {
	s, err := unescapeBytes(v)
	if err == nil && !utf8.ValidString(s) {
		return "", errors.New("not UTF-8")
	}
	return s, err
}

func parseSource(s string) (source, account string, err error) {
	rest, ok := strings.CutPrefix(s, "/sources/")
	source, token, two := strings.Cut(rest, "/")
	if !ok || !two || source == "" {
		return "", "", fmt.Errorf("header %s: want /sources/NAME/ACCOUNT", HeaderSource)
	}
	if account, err = Unescape(token); err != nil {
		return "", "", fmt.Errorf("header %s: %w", HeaderSource, err)
	}
	return source, account, nil
}
