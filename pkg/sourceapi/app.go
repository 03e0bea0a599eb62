package sourceapi

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tercelhq/tercel/pkg/provider"
)

// app gets the tokens of a GitHub App's installation (docs.github.com,
// "Generating an installation access token", read November 2026).
type app struct {
	id   string
	key  *rsa.PrivateKey
	url  string
	http *http.Client
	now  func() time.Time
}

func (c *Client) newApp(cfg provider.App, asker *http.Client) (*tokens, error) {
	key, err := rsaKey(cfg.Key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("app: key: %w", err)
	}
	u, err := c.address("/app/installations/"+cfg.Installation+"/access_tokens", nil)
	if err != nil {
		return nil, fmt.Errorf("app: installation: %w", err)
	}
	a := &app{id: cfg.ID, key: key, url: u.String(), http: asker, now: c.now}
	return &tokens{now: c.now, patience: c.cfg.Timeout, fetch: a.token}, nil
}

func rsaKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("want a private key in PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if key, ok := key.(*rsa.PrivateKey); ok {
			return key, nil
		}
	}
	return nil, errors.New("want an RSA key, PKCS #1 or #8, without a passphrase")
}

func (a *app) token(ctx context.Context, _ string) (token, error) {
	signed, err := a.sign()
	if err != nil {
		return token{}, &tokenError{text: "signing with the app's key: " + err.Error(), refused: true}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, http.NoBody)
	if err != nil {
		return token{}, &tokenError{text: "installation is not valid in a URL", refused: true}
	}
	req.Header = http.Header{
		"Accept": {"application/json"}, "User-Agent": {"tercel"}, "Authorization": {"Bearer " + signed},
	}
	asked := a.now()
	body, err := ask(ctx, a.http, req)
	if err != nil {
		return token{}, err
	}
	var answer struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || !sendable(answer.Token) || !answer.Expires.After(asked) {
		return token{}, &tokenError{text: "answer of the issuer: no token with a time at which it expires"}
	}
	return token{value: answer.Token, expires: answer.Expires, lives: answer.Expires.Sub(asked)}, nil
}

// sign returns a token of the app itself, good for nine minutes (of ten that are
// allowed), from a minute ago, since clocks differ.
func (a *app) sign() (string, error) {
	claims, err := json.Marshal(map[string]any{
		"iss": a.id, "iat": a.now().Add(-time.Minute).Unix(), "exp": a.now().Add(9 * time.Minute).Unix(),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return text + "." + encode(signature), nil
}
