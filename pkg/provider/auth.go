package provider

import (
	"net/url"
	"regexp"

	"github.com/tercelhq/tercel/pkg/config"
)

// Auth is what requests to an API prove themselves with. Token, Basic, OAuth
// and App exclude each other: all are sent in the same header.
type Auth struct {
	// Token is sent as a bearer token.
	Token config.Secret `yaml:"token"`
	// Basic is sent as HTTP basic authentication.
	Basic *Basic `yaml:"basic"`
	// Headers are sent with every request, such as X-Api-Key.
	Headers map[string]config.Secret `yaml:"headers"`
	// Query are parameters of every request's address. Discouraged: addresses
	// end up in the logs of whatever stands in between. Tercel's own logs,
	// errors and traces never hold a query.
	Query map[string]config.Secret `yaml:"query"`
	// OAuth gets access tokens from a token endpoint (OAuth 2.0, RFC 6749).
	OAuth *OAuth `yaml:"oauth"`
	// App gets access tokens as an installation of a GitHub App.
	App *App `yaml:"app"`
	// TLS proves itself with a client certificate, beside whatever else there is.
	TLS *ClientTLS `yaml:"tls"`
}

// Basic is a user and password.
type Basic struct {
	// User is the user name. Required.
	User string `yaml:"user"`
	// Password is a reference such as env:NAME. Required.
	Password config.Secret `yaml:"password"`
}

// OAuth is how access tokens are got: with the client's own credentials, or
// with a refresh token where there is one. Tokens are kept until shortly before
// they expire, and got anew once when the API refuses one.
type OAuth struct {
	// TokenURL is the token endpoint. It is called under the same guard as the
	// API, and no redirect of it is followed. Required.
	TokenURL string `yaml:"token_url"`
	// ClientID names the client. Required.
	ClientID string `yaml:"client_id"`
	// ClientSecret is the client's secret. Defaults to none, for a public
	// client with a refresh token.
	ClientSecret config.Secret `yaml:"client_secret"`
	// RefreshToken is the first refresh token, as the authorization gave it. An
	// issuer may replace it at each use; the one that counts is then kept in the
	// bucket tercel_tokens, sealed with the pipeline file's seal_keys and shared
	// by all replicas. Another value here, after a new authorization, takes its
	// place. Defaults to none.
	RefreshToken config.Secret `yaml:"refresh_token"`
	// Scopes are asked for. Defaults to the client's own.
	Scopes []string `yaml:"scopes"`
	// Audience is asked for, where the issuer wants to know which API it is.
	Audience string `yaml:"audience"`
	// Style is where the client's credentials stand in the request. Defaults to
	// header.
	Style AuthStyle `yaml:"style"`
}

// AuthStyle is where a token request has the client's credentials.
type AuthStyle string

// The styles.
const (
	AuthHeader AuthStyle = "header" // HTTP basic authentication
	AuthBody   AuthStyle = "body"   // parameters client_id and client_secret
)

// Values lists the styles, for configuration errors.
func (AuthStyle) Values() []string { return []string{string(AuthHeader), string(AuthBody)} }

// App is a GitHub App: a token signed with its key (RS256) is exchanged below
// the API's base for a token of one installation, which lives for an hour.
type App struct {
	// ID is the app's client id or number. Required.
	ID string `yaml:"id"`
	// Key is the app's private key, PEM. Required.
	Key config.Secret `yaml:"key"`
	// Installation is the number of the installation, of each account its own.
	// Required.
	Installation string `yaml:"installation"`
}

// ClientTLS is a certificate that the API knows us by.
type ClientTLS struct {
	// Cert and Key are the paths of PEM files, which are read again for each new
	// connection. Required.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// CA is the path of a PEM file with the API's own authority. Defaults to the
	// system's authorities.
	CA string `yaml:"ca"`
}

var installation = regexp.MustCompile(`^[0-9]{1,20}$`)

// Validate reports every fault of the credentials.
func (a *Auth) Validate(c *config.Check) {
	if a.Basic != nil && (a.Basic.User == "" || a.Basic.Password.IsZero()) {
		c.Fault("basic", "", "{user: NAME, password: env:NAME}")
	}
	given := map[string]bool{"token": !a.Token.IsZero(), "basic": a.Basic != nil, "oauth": a.OAuth != nil, "app": a.App != nil}
	first := ""
	for _, key := range []string{"token", "basic", "oauth", "app"} {
		switch {
		case given[key] && first == "":
			first = key
		case given[key]:
			c.Fault(key, key+" beside "+first, "one of them: both are sent in the same header")
		}
	}
	for name := range a.Query {
		if name == "" {
			c.Fault("query", "a parameter without a name", "{NAME: env:SECRET}")
		}
	}
	if a.App != nil && (a.App.ID == "" || a.App.Key.IsZero() || !installation.MatchString(a.App.Installation)) {
		c.Fault("app", "", "{id: ID, key: file:/path/of.pem, installation: NUMBER}")
	}
	if t := a.TLS; t != nil && (t.Cert == "" || t.Key == "") {
		c.Fault("tls", "", "{cert: PATH, key: PATH}")
	}
}

// Validate reports every fault of the section.
func (o *OAuth) Validate(c *config.Check) {
	if o.Style == "" {
		o.Style = AuthHeader
	}
	if u, err := url.Parse(o.TokenURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" ||
		u.User != nil || u.Fragment != "" {
		c.Fault("token_url", "no URL", "a URL such as https://auth.example.com/oauth/token") // a password may be part of it
	}
	if o.ClientID == "" {
		c.Missing("client_id", "the client's id")
	}
	if o.ClientSecret.IsZero() && o.RefreshToken.IsZero() {
		c.Missing("client_secret", "the client's secret, or a refresh_token")
	}
}
