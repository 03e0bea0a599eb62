package console_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	adminv1 "github.com/tercelhq/tercel/proto/tercel/admin/v1"
)

// contract is every method of every service.
func contract(t testing.TB) map[string]protoreflect.MethodDescriptor {
	t.Helper()
	all := map[string]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFilesByPackage("tercel.admin.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				all[fmt.Sprintf("/%s/%s", s.FullName(), m.Name())] = m
			}
		}
		return true
	})
	if len(all) < 20 {
		t.Fatalf("%d methods, want all of the contract", len(all))
	}
	return all
}

func role(m protoreflect.MethodDescriptor) adminv1.Role {
	r, _ := proto.GetExtension(m.Options(), adminv1.E_Role).(adminv1.Role)
	return r
}

// Every method says who may call it; every action says why it is done, and no
// other method does.
func TestTheContractNamesRolesAndReasons(t *testing.T) {
	t.Parallel()
	for name, m := range contract(t) {
		reason := m.Input().Fields().ByName("reason")
		switch role(m) {
		case adminv1.Role_ROLE_VIEWER:
			if reason != nil {
				t.Errorf("%s: a viewer's call with a reason isn't recorded", name)
			}
		case adminv1.Role_ROLE_OPERATOR:
			if reason == nil || reason.Kind() != protoreflect.StringKind || reason.IsList() {
				t.Errorf("%s: an operator's action without a text called reason", name)
			}
		default:
			t.Errorf("%s: wants the role %s", name, role(m))
		}
		if m.IsStreamingClient() {
			t.Errorf("%s: the record of an action is of one request", name)
		}
	}
}

// h2c is a client of gRPC without TLS.
func h2c(t testing.TB) *http.Client {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// call calls any method with an empty message and returns its error. Of a stream
// it waits for the first message.
func call(ctx context.Context, client connect.HTTPClient, url string, m protoreflect.MethodDescriptor, options ...connect.ClientOption) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c := connect.NewClient[emptypb.Empty, emptypb.Empty](client, url, options...)
	if !m.IsStreamingServer() {
		_, err := c.CallUnary(ctx, connect.NewRequest(&emptypb.Empty{}))
		return err
	}
	stream, err := c.CallServerStream(ctx, connect.NewRequest(&emptypb.Empty{}))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	stream.Receive()
	return stream.Err()
}

// reasonOf is the reason in an error's detail.
func reasonOf(err error) adminv1.Reason {
	info := infoOf(err)
	return info.GetReason()
}

func infoOf(err error) *adminv1.ErrorInfo {
	var e *connect.Error
	if !errors.As(err, &e) {
		return nil
	}
	for _, d := range e.Details() {
		if v, err := d.Value(); err == nil {
			if info, ok := v.(*adminv1.ErrorInfo); ok {
				return info
			}
		}
	}
	return nil
}

// Nobody gets further than the role of its token, whatever the method, over JSON
// and gRPC alike.
func TestEveryMethodWantsItsRole(t *testing.T) {
	t.Parallel()
	f := setup(t)
	grpc := h2c(t)
	for path, m := range contract(t) {
		for protocol, call := range map[string]func(...connect.ClientOption) error{
			"json": func(o ...connect.ClientOption) error {
				return call(f.Context(), http.DefaultClient, f.url+path, m, append(o, connect.WithProtoJSON())...)
			},
			"grpc": func(o ...connect.ClientOption) error {
				return call(f.Context(), grpc, f.url+path, m, append(o, connect.WithGRPC())...)
			},
		} {
			t.Run(strings.TrimPrefix(path, "/tercel.admin.v1.")+" "+protocol, func(t *testing.T) {
				for who, tt := range map[string]struct {
					options []connect.ClientOption
					code    connect.Code // 0: it gets further
					reason  adminv1.Reason
				}{
					"nobody":          {nil, connect.CodeUnauthenticated, adminv1.Reason_REASON_UNAUTHENTICATED},
					"an expired one":  {[]connect.ClientOption{bearer(oldToken)}, connect.CodeUnauthenticated, adminv1.Reason_REASON_TOKEN_EXPIRED},
					"the operator":    {[]connect.ClientOption{bearer(operatorToken)}, 0, 0},
					"the viewer":      {[]connect.ClientOption{bearer(viewerToken)}, viewers(m), adminv1.Reason_REASON_ROLE},
					"an empty bearer": {[]connect.ClientOption{bearer("")}, connect.CodeUnauthenticated, adminv1.Reason_REASON_UNAUTHENTICATED},
				} {
					err := call(tt.options...)
					code := connect.CodeOf(err)
					if tt.code != 0 {
						if code != tt.code || reasonOf(err) != tt.reason {
							t.Errorf("%s got %v, want %s %s", who, err, tt.code, tt.reason)
						}
						continue
					}
					if err != nil && (code == connect.CodeUnauthenticated || code == connect.CodePermissionDenied || code == connect.CodeUnimplemented || code == connect.CodeInternal) {
						t.Errorf("%s got %v, want to be let in", who, err)
					}
					if role(m) == adminv1.Role_ROLE_OPERATOR && infoOf(err).GetField() != "reason" {
						t.Errorf("%s got %v without a reason, want to be asked for one", who, err)
					}
				}
			})
		}
	}
}

// viewers is what a viewer's call gets.
func viewers(m protoreflect.MethodDescriptor) connect.Code {
	if role(m) == adminv1.Role_ROLE_OPERATOR {
		return connect.CodePermissionDenied
	}
	return 0
}

// A wrong token is counted, and after some of them no other is looked at. Who has a
// right one isn't kept out by those who share the address.
func TestWrongTokensAreBounded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	from := func(address string) *http.Client {
		transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	m := contract(t)["/tercel.admin.v1.PipelineService/GetCaller"]
	as := func(address, token string) error {
		return call(f.Context(), from(address), f.url+"/tercel.admin.v1.PipelineService/GetCaller", m, bearer(token))
	}
	var err error
	for range 10 {
		if err = as("127.0.0.7", "not a token of this console"); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Fatalf("a wrong token got %v", err)
		}
	}
	if err = as("127.0.0.7", "another that this console doesn't know"); reasonOf(err) != adminv1.Reason_REASON_TOO_MANY_ATTEMPTS {
		t.Errorf("the eleventh wrong token got %v, want REASON_TOO_MANY_ATTEMPTS", err)
	}
	if err = as("127.0.0.7", operatorToken); err != nil {
		t.Errorf("the right token from there got %v", err)
	}
	if err = as("127.0.0.8", "not a token of this console"); reasonOf(err) != adminv1.Reason_REASON_UNAUTHENTICATED {
		t.Errorf("a wrong token from elsewhere got %v, want REASON_UNAUTHENTICATED", err)
	}
	if log := f.log.String(); strings.Contains(log, "not a token of") || !strings.Contains(log, "wrong token") {
		t.Errorf("want wrong tokens in the log without their text:\n%s", log)
	}
}

// A page of another site can't use the browser of who is on the machine.
func TestABrowserIsNoWayIn(t *testing.T) {
	t.Parallel()
	open := setup(t, func(c *consoleConfig, _ *consoleDeps) { c.Tokens, c.Open = nil, true })
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for what, tt := range map[string]struct {
		edit func(*http.Request)
		want int
	}{
		"under its address":         {func(*http.Request) {}, http.StatusOK},
		"under localhost":           {host("localhost:8089"), http.StatusOK},
		"under [::1]":               {host("[::1]:8089"), http.StatusOK},
		"under a name made for it":  {host("rebound.example.com:8089"), http.StatusMisdirectedRequest},
		"under a name like it":      {host("localhost.example.com"), http.StatusMisdirectedRequest},
		"under no name":             {host(" "), http.StatusMisdirectedRequest},
		"from another site":         {header("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		"from another origin":       {header("Origin", "https://example.com"), http.StatusForbidden},
		"as a form":                 {header("Content-Type", "application/x-www-form-urlencoded"), http.StatusUnsupportedMediaType},
		"as text":                   {header("Content-Type", "text/plain"), http.StatusUnsupportedMediaType},
		"by GET":                    {func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		"by a preflight of another": {func(r *http.Request) { r.Method = http.MethodOptions; r.Header.Set("Origin", "https://example.com") }, http.StatusMethodNotAllowed},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			a := open.post("", "PipelineService/GetCaller", "{}", tt.edit)
			if a.status != tt.want {
				t.Errorf("answered %d %s, want %d", a.status, a.text, tt.want)
			}
			for name := range a.header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("answered with %s, which lets other sites read it", name)
				}
			}
		})
	}
}

// gRPC works over TLS with HTTP/2, and the certificate is the file's.
func TestTLS(t *testing.T) {
	t.Parallel()
	paths, pool := certificate(t)
	f := setup(t, func(c *consoleConfig, _ *consoleDeps) { c.TLS = paths })
	if !strings.HasPrefix(f.url, "https://") {
		t.Fatalf("URL() = %s", f.url)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	m := contract(t)["/tercel.admin.v1.PipelineService/GetPipelineStatus"]
	for name, option := range map[string]connect.ClientOption{"grpc": connect.WithGRPC(), "grpc-web": connect.WithGRPCWeb(), "json": connect.WithProtoJSON()} {
		err := call(f.Context(), &http.Client{Transport: transport}, f.url+"/tercel.admin.v1.PipelineService/GetPipelineStatus", m, option, bearer(viewerToken))
		if err != nil {
			t.Errorf("%s over TLS: %v", name, err)
		}
	}
	if _, err := http.Get(strings.Replace(f.url, "https://", "http://", 1) + "/openapi.json"); err == nil {
		if resp, err := http.Get(strings.Replace(f.url, "https://", "http://", 1) + "/openapi.json"); err == nil && resp.StatusCode == http.StatusOK {
			t.Error("plain HTTP was served")
		}
	}
}
