package sourceapi

import (
	"net/http"
	"net/url"

	"github.com/tercelhq/tercel/pkg/fault"
)

// Refusal gives fuzzers the reader of a refusal's headers without a server.
func (c *Client) Refusal(status int, h http.Header) error {
	v, err := c.judge(status, h)
	if v.kind == throttled && v.wait >= 0 {
		return fault.Postpone(err, v.wait)
	}
	return err
}

// Address gives fuzzers the URL of a request without a server.
func (c *Client) Address(path string, query url.Values) (string, error) {
	u, err := c.address(path, query)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// Part tells the tests which part of the limits the client takes.
func (c *Client) Part() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.part
}

// Waiting tells the tests how many calls wait for requests.
func (c *Client) Waiting() (n int) {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	for _, f := range c.flights.all {
		n += f.calls
	}
	return n
}
