package pages

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tercelhq/tercel/services/console/internal/access"
)

// Bounds of sessions.
const (
	sessionFor   = 12 * time.Hour
	maxSessions  = 1000
	sessionBytes = 32
	cookieName   = "tercel_session"
)

// sessions are who is signed in. The token stays here: a browser has a random
// name for it, which no script can read and which ends with the process.
type sessions struct {
	now func() time.Time

	mu  sync.Mutex // guards all
	all map[string]session
}

type session struct {
	token string
	ends  time.Time
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: map[string]session{}}
}

// token returns the token that a request is signed in with, or "".
func (s *sessions) token(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in := s.all[c.Value]; s.now().Before(in.ends) {
		return in.token
	}
	return ""
}

// begin signs a browser in.
func (s *sessions) begin(w http.ResponseWriter, token string, secure bool) {
	random := make([]byte, sessionBytes)
	_, _ = rand.Read(random) // it never fails, by its documentation
	name := base64.RawURLEncoding.EncodeToString(random)
	s.mu.Lock()
	for other, in := range s.all {
		if !s.now().Before(in.ends) || len(s.all) >= maxSessions { // any one makes room
			delete(s.all, other)
		}
	}
	s.all[name] = session{token, s.now().Add(sessionFor)}
	s.mu.Unlock()
	http.SetCookie(w, cookie(name, int(sessionFor.Seconds()), secure))
}

// end signs a browser out.
func (s *sessions) end(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		delete(s.all, c.Value)
		s.mu.Unlock()
	}
	http.SetCookie(w, cookie("", -1, false))
}

func cookie(value string, age int, secure bool) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	}
}

// signInPage is what the form needs.
type signInPage struct {
	Next  string
	Error string
}

func (p *Pages) askToSignIn(w http.ResponseWriter, r *http.Request) {
	next := "/"
	if r.Method == http.MethodGet {
		next = r.URL.RequestURI()
	}
	http.Redirect(w, r, "/sign-in?next="+url.QueryEscape(next), http.StatusSeeOther)
}

func (p *Pages) signInForm(w http.ResponseWriter, r *http.Request) {
	p.showSignIn(w, http.StatusOK, signInPage{Next: local(r.FormValue("next"))})
}

func (p *Pages) signIn(w http.ResponseWriter, r *http.Request) {
	token, next := strings.TrimSpace(r.PostFormValue("token")), local(r.PostFormValue("next"))
	_, err := p.deps.Gate.Check(token, access.Address(r))
	switch {
	case err == nil:
		// Behind a proxy that ends TLS the browser alone knows that it is there.
		encrypted := p.deps.Secure || strings.HasPrefix(r.Header.Get("Origin"), "https://")
		p.sessions.begin(w, token, encrypted)
		http.Redirect(w, r, next, http.StatusSeeOther)
	case errors.Is(err, access.ErrTooMany):
		p.showSignIn(w, http.StatusTooManyRequests, signInPage{next, "Too many wrong tokens from this address. Try again in a minute."})
	case errors.Is(err, access.ErrExpired):
		p.showSignIn(w, http.StatusForbidden, signInPage{next, "This token has expired. Ask for a new one."})
	default:
		p.showSignIn(w, http.StatusForbidden, signInPage{next, "This is none of the tokens in the pipeline file's console.tokens."})
	}
}

func (p *Pages) showSignIn(w http.ResponseWriter, status int, data signInPage) {
	if err := p.write(w, status, "sign-in.html", frame{Title: "Sign in", Now: p.deps.Now(), Data: data}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (p *Pages) signOut(w http.ResponseWriter, r *http.Request) {
	p.sessions.end(w, r)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// local keeps a link from leading to another host.
func local(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(path, "/") ||
		strings.HasPrefix(path, "//") || strings.Contains(path, `\`) {
		return "/"
	}
	return u.RequestURI()
}
