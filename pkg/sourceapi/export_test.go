package sourceapi

import (
	"net/http"
	"net/url"
)

// Refusal gives fuzzers the reader of a refusal's headers without a server.
func (c *Client) Refusal(status int, h http.Header) error {
	_, err := c.refusal(status, h)
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
