package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/tercelhq/tercel/pkg/egress"
	"github.com/tercelhq/tercel/pkg/field"
)

// fetch gets a key from where the source says.
func (r *Ring) fetch(ctx context.Context, name string) (*held, error) {
	if r.cfg.Keys.Endpoint != nil {
		return r.askEndpoint(ctx, name)
	}
	return r.fetchCertificate(ctx, name)
}

func unknown(reason string) error     { return fmt.Errorf("%w: %s", ErrUnknown, reason) }
func unavailable(reason string) error { return fmt.Errorf("%w: %s", ErrUnavailable, reason) }

// answer is what a server has answered, within maxAnswer.
type answer struct {
	status int
	body   []byte
}

// gone tells whether the server says that there is no such thing.
func (a answer) gone() bool { return a.status == http.StatusNotFound || a.status == http.StatusGone }

// Visit makes a request of which only counts that it is answered with status
// 200. Its error tells nothing of the address, and wraps [ErrUnavailable].
func Visit(c *http.Client, req *http.Request) error {
	a, err := exchange(c, req)
	if err == nil && a.status != http.StatusOK {
		err = unavailable(fmt.Sprintf("answered with status %d, want 200", a.status))
	}
	return err
}

func exchange(c *http.Client, req *http.Request) (answer, error) {
	req.Header.Set("User-Agent", "tercel")
	resp, err := c.Do(req)
	if err != nil {
		told, _ := egress.Failure(req.Context(), err)
		return answer{}, unavailable(told.Error())
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		told, _ := egress.Failure(req.Context(), err)
		return answer{}, unavailable(told.Error())
	}
	if len(body) > maxAnswer {
		return answer{}, unavailable(fmt.Sprintf("an answer of more than %d bytes", maxAnswer))
	}
	return answer{resp.StatusCode, body}, nil
}

func (r *Ring) get(ctx context.Context, url string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, unknown("no URL")
	}
	return exchange(r.http, req)
}

// askEndpoint gets a JSON Web Key by its id.
func (r *Ring) askEndpoint(ctx context.Context, id string) (*held, error) {
	e := r.cfg.Keys.Endpoint
	question, err := json.Marshal(map[string]string{e.ID: id})
	if err != nil {
		return nil, unavailable("no question to ask") // strings always can be
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(r.cfg.API.Base, "/")+e.Path, bytes.NewReader(question))
	if err != nil {
		return nil, unavailable("api.base is no URL")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	for name, value := range r.cfg.API.Headers {
		req.Header.Set(name, value.Reveal())
	}
	a, err := exchange(r.http, req)
	switch {
	case err != nil:
		return nil, err
	case a.gone():
		return nil, unknown("the sender has no key of that id")
	case a.status != http.StatusOK && a.status != http.StatusBadRequest, field.Valid(a.body) != nil:
		return nil, unavailable(fmt.Sprintf("answered with status %d, want 200 and JSON", a.status))
	case a.status == http.StatusOK:
		return r.readKey(a.body, id)
	}
	found, err := e.Unknown.In(a.body)
	if err == nil {
		if code, err := field.Text(found); err == nil && code == e.UnknownCode {
			return nil, unknown("the sender has no key of that id")
		}
	}
	return nil, unavailable("the question was refused: are api.base and api.headers right?")
}
