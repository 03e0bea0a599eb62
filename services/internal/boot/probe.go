package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxAnswer bounds what a probe reads of an answer, in bytes.
const maxAnswer = 4 << 10

// Probe asks the process whose health and metrics are at listen, an address as
// in telemetry.listen, whether it is ready, and returns why it isn't. It takes
// at most 5 seconds.
func Probe(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("address of health and metrics: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // it listens everywhere
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("address of health and metrics: %w", err)
	}
	// No proxy from the environment: it is this machine.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("not reached: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status is the answer
	if resp.StatusCode != http.StatusOK {
		return errors.New("not ready: " + strings.TrimSpace(string(answer)))
	}
	return nil
}
