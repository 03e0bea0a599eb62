package ingress_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/pkg/topology"
	"github.com/tercelhq/tercel/services/ingress"
)

// BenchmarkEvent is what an event costs, from its request to its answer, with a
// server in the same process, by how many sources and accounts there are. Each
// request is of another one.
func BenchmarkEvent(b *testing.B) {
	for _, n := range []int{1, 100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("sources=%d", n), func(b *testing.B) {
			paths := make([]string, n)
			for i := range paths {
				paths[i] = fmt.Sprintf("/v1/s%d", i)
			}
			benchmarkEvents(b, paths, func(c *ingress.Config) {
				one := c.Sources["shop"]
				c.Sources = map[string]provider.Source{}
				for i := range n {
					c.Sources[fmt.Sprint("s", i)] = one
				}
			}, "secrets: [env:PLAIN]")
		})
		b.Run(fmt.Sprintf("accounts=%d", n), func(b *testing.B) {
			folder := b.TempDir()
			if err := os.WriteFile(filepath.Join(folder, "secret"), []byte(ofSource), 0o600); err != nil {
				b.Fatal(err)
			}
			var text strings.Builder
			paths := make([]string, n)
			for i := range paths {
				paths[i] = fmt.Sprintf("/v1/shop/acct_%012d", i)
				fmt.Fprintf(&text, "acct_%012d: {secrets: [file:%s/secret]}\n", i, folder)
			}
			path := filepath.Join(folder, "accounts.yaml")
			if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
				b.Fatal(err)
			}
			benchmarkEvents(b, paths, func(*ingress.Config) {}, "secrets: [env:PLAIN]\n    accounts: {file: "+path+"}")
		})
	}
}

func benchmarkEvents(b *testing.B, paths []string, change func(*ingress.Config), source string) {
	f := setup(b, reading(b, fmt.Sprintf(tenanted, "", source)), func(c *ingress.Config) {
		c.Streams.Durability = topology.Relaxed
		change(c)
	})
	one := decodedSource(f)
	key, err := signature.ParseKey(one.Verify, ofSource)
	if err != nil {
		b.Fatal(err)
	}
	handler := f.service.Handler()
	filler := strings.Repeat("x", 1024)
	var next, failed atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := next.Add(1)
			body := fmt.Appendf(nil, `{"id":"%d","kind":"paid","filler":%q}`, i, filler)
			r := httptest.NewRequest(http.MethodPost, paths[int(i*7919)%len(paths)], bytes.NewReader(body))
			r.Header = one.Verifier().Sign(key, body, "", at)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				failed.Add(1)
			}
		}
	})
	b.StopTimer()
	if n := failed.Load(); n > 0 {
		b.Errorf("%d of %d refused", n, b.N)
	}
}

// decodedSource is any of the sources, which are all the same.
func decodedSource(f *fixture) provider.Source {
	for one := range maps.Values(f.sources) {
		return one
	}
	return provider.Source{}
}

// BenchmarkSourcesInMemory is what a source takes of the heap, from the pipeline
// file to the service that is ready to run: 15 KB, so 15 MB for a thousand.
func BenchmarkSourcesInMemory(b *testing.B) {
	nc := natstest.Start(b, false).Connect()
	for _, n := range []int{100, 1_000} {
		for name, one := range map[string]string{
			"written out": "{verify: {scheme: hmac-sha256, header: X-Signature}, secrets: ['env:PLAIN'], event: {id: body.id, type: body.kind}}",
			"of a preset": "{preset: stripe, secrets: ['env:STRIPE']}",
		} {
			b.Run(fmt.Sprintf("sources=%d/%s", n, name), func(b *testing.B) {
				text := "sources:\n"
				for i := range n {
					text += fmt.Sprintf("  s%d: %s\n", i, one)
				}
				for b.Loop() {
					before := heap()
					var cfg ingress.Config
					reading(b, text)(&cfg)
					cfg.Streams = topology.DefaultConfig()
					s, err := ingress.New(cfg, ingress.Deps{Conn: nc, Log: slog.New(slog.DiscardHandler)})
					if err != nil {
						b.Fatal(err)
					}
					after := heap()
					b.ReportMetric((float64(after)-float64(before))/float64(n), "B/source")
					s.Close()
				}
			})
		}
	}
}

// heap is what the heap holds after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers held back
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
