package sourceapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/field"
	"github.com/tercelhq/tercel/pkg/provider"
)

// oauth gets access tokens from a token endpoint (RFC 6749).
type oauth struct {
	cfg  provider.OAuth
	http *http.Client
	now  func() time.Time
}

func (c *Client) newOAuth(account string, cfg provider.OAuth, asker *http.Client) (*tokens, error) {
	u, err := url.Parse(cfg.TokenURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !c.cfg.AllowPrivate) {
		return nil, errors.New("oauth: token_url: want https, or http with allow_private")
	}
	o := &oauth{cfg: cfg, http: asker, now: c.now}
	t := &tokens{now: c.now, patience: c.cfg.Timeout, fetch: func(ctx context.Context, _ string) (token, error) {
		got, _, err := o.grant(ctx, url.Values{"grant_type": {"client_credentials"}})
		return got, err
	}}
	if cfg.RefreshToken.IsZero() {
		return t, nil
	}
	if c.deps.JetStream == nil || c.deps.Seal == nil {
		return nil, errors.New("oauth: refresh_token: want seal_keys, since the issuer may replace the token")
	}
	r := &rotation{
		oauth: o, js: c.deps.JetStream, seal: c.deps.Seal, key: rotationKey(c.name, account), timeout: c.cfg.Timeout,
	}
	t.patience = (claimTimeouts + 1) * c.cfg.Timeout // another replica may be at it
	t.fetch = r.token
	return t, nil
}

// grant makes a token request. It returns the refresh token that the issuer
// gave beside the access token, or "".
func (o *oauth) grant(ctx context.Context, form url.Values) (got token, refresh string, err error) {
	if len(o.cfg.Scopes) > 0 {
		form.Set("scope", strings.Join(o.cfg.Scopes, " "))
	}
	if o.cfg.Audience != "" {
		form.Set("audience", o.cfg.Audience)
	}
	secret := o.cfg.ClientSecret.Reveal()
	inBody := o.cfg.Style == provider.AuthBody || secret == "" // a public client only names itself
	if inBody {
		form.Set("client_id", o.cfg.ClientID)
	}
	if inBody && secret != "" {
		form.Set("client_secret", secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.cfg.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return token{}, "", &tokenError{text: "token_url is not valid"}
	}
	req.Header = http.Header{
		"Accept": {"application/json"}, "User-Agent": {"tercel"}, "Content-Type": {"application/x-www-form-urlencoded"},
	}
	if !inBody { // encoded as RFC 6749, section 2.3.1, wants it
		req.SetBasicAuth(url.QueryEscape(o.cfg.ClientID), url.QueryEscape(secret))
	}
	asked := o.now()
	body, err := ask(ctx, o.http, req)
	if err != nil {
		return token{}, "", err
	}
	return readGrant(body, asked)
}

// readGrant reads a token endpoint's answer to a request that was made at asked.
func readGrant(body []byte, asked time.Time) (got token, refresh string, err error) {
	var answer struct {
		AccessToken  string         `json:"access_token"`
		TokenType    string         `json:"token_type"`
		RefreshToken string         `json:"refresh_token"`
		ExpiresIn    jsontext.Value `json:"expires_in"` // some write the number as a text
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return token{}, "", &tokenError{text: "answer of the issuer: not as RFC 6749 has it"}
	}
	if !sendable(answer.AccessToken) {
		return token{}, "", &tokenError{text: "answer of the issuer: no access_token"}
	}
	if t := answer.TokenType; t != "" && !strings.EqualFold(t, "bearer") {
		return token{}, "", &tokenError{text: "answer of the issuer: token_type: want bearer"}
	}
	got = token{value: answer.AccessToken}
	if text, err := field.Text(answer.ExpiresIn); err == nil && len(answer.ExpiresIn) > 0 {
		if lives, err := time.ParseDuration(text + "s"); err == nil && lives > 0 {
			got.lives, got.expires = lives, asked.Add(lives)
		}
	}
	return got, answer.RefreshToken, nil
}

// rotationKey is a credential's key in the bucket of tokens.
func rotationKey(source, account string) string {
	if account == "" {
		return source
	}
	return fmt.Sprintf("%s.%s", source, account)
}
