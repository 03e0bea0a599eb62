package hostile_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What costs a client of HTTP/2 a few bytes and its server a goroutine or memory each
// time is bounded in the console, as an operator's browser speaks to it: encrypted.
// Meanwhile operators are answered, and afterwards it takes what it took before.
// (Promise 10.)
func TestHTTP2Floods(t *testing.T) {
	w := start(t, part{sources: badSource, services: []string{"ingress", "console"}, encrypted: true})
	operator := w.newOperator()
	operator.call()
	w.neighbour.while(time.Second, func() {})
	base := w.footprint()
	quiet := w.neighbour.while(2*time.Second, func() {})
	flooded := w.neighbour.while(0, func() {
		for range max(*rounds, 1) {
			over := make(chan struct{})
			go func() { defer close(over); w.floodHTTP2() }()
			for open := true; open; {
				operator.call()
				select {
				case <-over:
					open = false
				default:
				}
			}
		}
	})
	w.compare(quiet, flooded)
	w.recovered(base)
	if err := w.alive(); err != nil {
		t.Error(err)
	}
	t.Logf("%d calls of an operator meanwhile, the longest %s", operator.calls, operator.longest.Round(time.Millisecond))
}

// frames are what a stranger sends over HTTP/2 behind the preface.
type frames struct {
	send func(*http2.Framer) error
	// ends says that the server has to end the connection before all was sent.
	ends bool
}

// floodsOfFrames are what costs the server more than the client.
func floodsOfFrames() map[string]frames {
	const many = 10_000
	get := fields(
		hpack.HeaderField{Name: ":method", Value: "GET"}, hpack.HeaderField{Name: ":scheme", Value: "https"},
		hpack.HeaderField{Name: ":authority", Value: "127.0.0.1"}, hpack.HeaderField{Name: ":path", Value: "/events"},
	)
	each := func(n int, send func(stream uint32) error) error {
		for i := range n {
			if err := send(uint32(2*i + 1)); err != nil {
				return err
			}
		}
		return nil
	}
	headers := func(f *http2.Framer, stream uint32, fragment []byte, endStream, endHeaders bool) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: fragment, EndStream: endStream, EndHeaders: endHeaders})
	}
	return map[string]frames{
		"requests that are taken back at once": {send: func(f *http2.Framer) error {
			return each(many, func(stream uint32) error {
				return errors.Join(headers(f, stream, get, true, true), f.WriteRSTStream(stream, http2.ErrCodeCancel))
			})
		}},
		"requests that are never ended, taken back": {send: func(f *http2.Framer) error {
			return each(many, func(stream uint32) error {
				return errors.Join(headers(f, stream, get, false, true), f.WriteRSTStream(stream, http2.ErrCodeCancel))
			})
		}},
		"requests without an end, more than there may be": {send: func(f *http2.Framer) error {
			return each(many, func(stream uint32) error { return headers(f, stream, get, false, true) })
		}},
		"headers that go on for ever": {ends: true, send: func(f *http2.Framer) error {
			more := fields(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("~", 12<<10), Sensitive: true}) // which is no shorter in the code of HPACK
			if err := headers(f, 1, get, true, false); err != nil {
				return err
			}
			return each(many, func(uint32) error { return f.WriteContinuation(1, false, more) })
		}},
		"headers of nothing, for ever": {send: func(f *http2.Framer) error {
			if err := headers(f, 1, get, true, false); err != nil {
				return err
			}
			return each(many, func(uint32) error { return f.WriteContinuation(1, false, nil) })
		}},
		"settings, each of which has to be confirmed": {send: func(f *http2.Framer) error {
			return each(many, func(uint32) error {
				return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16})
			})
		}},
	}
}

// fields are headers as they go over the wire.
func fields(all ...hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0) // each block says all
	for _, f := range all {
		_ = e.WriteField(f) // a buffer takes everything
	}
	return b.Bytes()
}

// floodHTTP2 sends each kind over a few connections at once.
func (w *world) floodHTTP2() {
	var going sync.WaitGroup
	for name, f := range floodsOfFrames() {
		for range 3 {
			going.Go(func() {
				if err := f.try(w.console); err != nil {
					w.t.Errorf("%s: %v", name, err)
				}
			})
		}
	}
	going.Wait()
}

func (f frames) try(addr string) error {
	elsewhere := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := tls.DialWithDialer(elsewhere, "tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(answerTime))
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	}()
	out := bufio.NewWriterSize(c, 32<<10)
	if _, err := out.WriteString(http2.ClientPreface); err != nil {
		return err
	}
	framer := http2.NewFramer(out, nil)
	err = errors.Join(framer.WriteSettings(), f.send(framer), out.Flush())
	if !f.ends {
		return nil // it was taken, or it wasn't
	}
	if err == nil {
		err = <-ended
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the server has not ended the connection")
	}
	return nil
}

// operator calls the console over one connection of HTTP/2.
type operator struct {
	w       *world
	client  *http.Client
	calls   int
	longest time.Duration
}

func (w *world) newOperator() *operator {
	protocols := &http.Protocols{}
	protocols.SetHTTP2(true)
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &operator{w: w, client: &http.Client{Transport: transport, Timeout: patience}}
}

// call asks how the pipeline is, which has to be answered.
func (o *operator) call() {
	began := time.Now()
	o.calls++
	if err := o.ask(); err != nil {
		o.w.t.Errorf("operator: %v", err)
	}
	o.longest = max(o.longest, time.Since(began))
}

func (o *operator) ask() error {
	url := "https://" + o.w.console + admin + "PipelineService/GetPipelineStatus"
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+consoleToken)
	resp, err := o.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		return fmt.Errorf("answered %s over %s, want 200 over HTTP/2", resp.Status, resp.Proto)
	}
	return nil
}

// certificate makes one for 127.0.0.1, and returns where it is as the tls section of a
// pipeline file.
func certificate(t *testing.T) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("{cert: %q, key: %q}", filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
}
