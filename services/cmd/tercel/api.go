package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/tercelhq/tercel/services/internal/adminv1connect"
	"github.com/tercelhq/tercel/services/internal/boot"
)

// apiFlags find the admin API of a running pipeline.
type apiFlags struct {
	API       string `name:"api" help:"Address of the admin API, as console.listen has it. The default is that of a tercel up on this machine." default:"http://127.0.0.1:8089" env:"TERCEL_API" placeholder:"URL" group:"api"`
	TokenFile string `help:"A file with the token, one of the pipeline file's console.tokens. The token itself may be in the environment as TERCEL_TOKEN." env:"TERCEL_TOKEN_FILE" type:"path" placeholder:"FILE" group:"api"`
	CA        string `name:"api-ca" help:"A file with the certificates, in PEM, that the API's may be signed by. Defaults to those of the system." env:"TERCEL_API_CA" type:"path" placeholder:"FILE" group:"api"`
}

// tokenVariable holds the token itself, for where there are no files.
const tokenVariable = "TERCEL_TOKEN"

// maxTokenBytes bounds a token's file.
const maxTokenBytes = 64 << 10

// Bounds of calls. The API itself bounds all but streams by half a minute.
const (
	callTimeout = 45 * time.Second
	// quietTimeout bounds the time between two messages of a stream. The API sends
	// signs of life.
	quietTimeout = time.Minute
	dialTimeout  = 10 * time.Second
)

// api is the admin API of a running pipeline.
type api struct {
	caller caller

	events         adminv1connect.EventServiceClient
	letters        adminv1connect.DeadLetterServiceClient
	reconciliation adminv1connect.ReconciliationServiceClient
	backfills      adminv1connect.BackfillServiceClient
	sources        adminv1connect.SourceServiceClient
	destinations   adminv1connect.DestinationServiceClient
	pipeline       adminv1connect.PipelineServiceClient
}

// dial makes the clients of the API. It connects to nothing yet.
func (f apiFlags) dial(a *app) (*api, error) {
	base, err := f.base()
	if err != nil {
		return nil, err
	}
	token, err := f.token()
	if err != nil {
		return nil, err
	}
	if token != "" && base.Scheme == "http" && !loopback(base.Hostname()) {
		fmt.Fprintf(a.err, "warning: the token travels to %s in plain text; want https\n", base.Host)
	}
	client, err := f.client()
	if err != nil {
		return nil, err
	}
	address := base.String()
	as := caller{token: token, address: address}
	option := connect.WithInterceptors(as)
	return &api{
		caller: as,

		events:         adminv1connect.NewEventServiceClient(client, address, option),
		letters:        adminv1connect.NewDeadLetterServiceClient(client, address, option),
		reconciliation: adminv1connect.NewReconciliationServiceClient(client, address, option),
		backfills:      adminv1connect.NewBackfillServiceClient(client, address, option),
		sources:        adminv1connect.NewSourceServiceClient(client, address, option),
		destinations:   adminv1connect.NewDestinationServiceClient(client, address, option),
		pipeline:       adminv1connect.NewPipelineServiceClient(client, address, option),
	}, nil
}

// base is the API's address. What may hold a password is not repeated.
func (f apiFlags) base() (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(f.API, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return nil, exitCode{boot.Usage, "--api: want http://HOST:PORT or https://HOST:PORT, without a user or a query"}
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// token reads the caller's token, or returns "" where there is none to give.
func (f apiFlags) token() (string, error) {
	text, from := os.Getenv(tokenVariable), tokenVariable
	if f.TokenFile != "" {
		from = "--token-file " + f.TokenFile
		info, err := os.Stat(f.TokenFile)
		if err == nil && info.Size() > maxTokenBytes {
			err = errors.New("it is too large for a token")
		}
		var data []byte
		if err == nil {
			data, err = os.ReadFile(f.TokenFile)
		}
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		text = string(data)
	}
	token := strings.TrimSpace(text)
	switch {
	case token == "" && f.TokenFile != "":
		return "", fmt.Errorf("%s: it is empty", from)
	case strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' }):
		return "", fmt.Errorf("%s: a token is one line of printable ASCII", from)
	}
	return token, nil
}

func (f apiFlags) client() (*http.Client, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("--api-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--api-ca %s: no certificate in it", f.CA)
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSClientConfig: cfg,
			TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: callTimeout, ForceAttemptHTTP2: true, IdleConnTimeout: callTimeout,
		},
		// A redirect would carry the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// caller gives every call the token, and its errors a form.
type caller struct{ token, address string }

func (c caller) sign(h http.Header) {
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
}

// WrapUnary stands around calls with one answer, which it bounds.
func (c caller) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		c.sign(req.Header())
		resp, err := next(ctx, req)
		return resp, c.told(err)
	}
}

// WrapStreamingClient stands around calls whose answer is a stream.
func (c caller) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		c.sign(conn.RequestHeader())
		return conn
	}
}

// WrapStreamingHandler is for servers, which this is not.
func (caller) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// errQuiet ends a stream that gives no sign of life.
var errQuiet = fmt.Errorf("the API gave no sign of life for %s", quietTimeout)

// each calls do with the messages of a stream until it ends, do wants no more, or
// the API falls silent.
func each[T any](ctx context.Context, c *api, open func(context.Context) (*connect.ServerStreamForClient[T], error), do func(*T) (more bool, err error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(quietTimeout, func() { cancel(errQuiet) })
	defer quiet.Stop()
	stream, err := open(ctx)
	if err != nil {
		return c.caller.told(err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		quiet.Reset(quietTimeout)
		if more, err := do(stream.Msg()); err != nil || !more {
			return err
		}
	}
	if errors.Is(context.Cause(ctx), errQuiet) {
		return errQuiet
	}
	return c.caller.told(stream.Err())
}
