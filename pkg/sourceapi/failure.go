package sourceapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/tercelhq/tercel/pkg/fault"
	"github.com/tercelhq/tercel/pkg/provider"
)

// failure is what an answer with the status of a success says that has failed, as
// the verdict and the error that the status should have given.
func (c *Client) failure(call call, body []byte) (verdict, error) {
	f, ok := c.cfg.Failures.In(body, call.GraphQL)
	if !ok {
		return verdict{}, nil
	}
	err := errors.New(f.String())
	v := verdict{kind: alive, cause: f.String()}
	switch f.Class {
	case provider.FailureGone:
		return v, fmt.Errorf("%s: %w", f, ErrNotFound)
	case provider.FailureThrottled:
		v.kind, v.wait = throttled, f.Wait
		if f.Wait == 0 {
			v.wait = -1
		}
		return v, err
	case provider.FailureRefused:
		v.kind = refused
		return v, err
	case provider.FailureTransient:
		v.kind = out
		return v, err
	default:
		return v, fault.Permanent(err)
	}
}

// refusal is what a status that is no success means. Some servers of GraphQL give
// 400 with errors that say more than that.
func (c *Client) refusal(ctx context.Context, call call, resp *http.Response) (verdict, error) {
	v, err := c.judge(resp.StatusCode, resp.Header)
	if !call.GraphQL || resp.StatusCode != http.StatusBadRequest || v.kind != alive {
		return v, err
	}
	body, _, broken := c.body(ctx, resp)
	if broken != nil {
		return v, err
	}
	if told, failed := c.failure(call, body); failed != nil {
		return told, failed
	}
	return v, err
}
