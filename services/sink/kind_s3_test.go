package sink_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tercelhq/tercel/pkg/freeport"
)

var s3Cannot = map[string]string{
	recordsAreThere: "objects are never changed; whoever reads them folds events into records",
	refusedAlone:    "a store refuses no event for what it is",
}

const (
	s3Access = "an-access-key"
	s3Secret = "a-secret-key-for-tests"
)

// store is an S3-compatible server, versitygw, of the whole test run.
var store struct {
	once   sync.Once
	addr   string
	err    error
	folder string
	server *exec.Cmd
	places atomic.Int64
}

func startStore() error {
	folder, err := os.MkdirTemp("", "tercel-s3-")
	if err != nil {
		return err
	}
	store.folder = folder
	program := filepath.Join(folder, "versitygw")
	build := exec.Command("go", "-C", "../../scripts/tools", "build", "-o", program, "github.com/versity/versitygw/cmd/versitygw")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build versitygw: %w\n%s", err, out)
	}
	port, err := freeport.Find()
	if err != nil {
		return err
	}
	store.addr = fmt.Sprint("127.0.0.1:", port)
	data := filepath.Join(folder, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	store.server = exec.Command(program, "--port", store.addr, "--quiet", "posix", data)
	store.server.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s3Access, "ROOT_SECRET_KEY="+s3Secret)
	return store.server.Start()
}

// endStore ends the server with the test run.
func endStore() {
	if store.server != nil && store.server.Process != nil {
		_ = store.server.Process.Kill()
		_ = store.server.Wait() // it was killed
	}
	if store.folder != "" {
		_ = os.RemoveAll(store.folder)
	}
}

// bucket is a bucket behind a proxy that can fail as networks and stores do.
type bucket struct {
	t      *testing.T
	name   string
	client *minio.Client // not through the proxy
	addr   string
	proxy  *httputil.ReverseProxy

	mu     sync.Mutex // guards what follows
	server *http.Server
	full   bool
	asleep chan struct{}
	// cut, if set, says whether a request is broken off in its middle.
	cut func(r *http.Request) bool
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	store.once.Do(func() { store.err = startStore() })
	if store.err != nil {
		t.Fatal(store.err)
	}
	client, err := minio.New(store.addr, &minio.Options{Creds: credentials.NewStaticV4(s3Access, s3Secret, ""), MaxRetries: 1})
	if err != nil {
		t.Fatal(err)
	}
	port, err := freeport.Find() // which it must get again after it was away
	if err != nil {
		t.Fatal(err)
	}
	b := &bucket{
		t: t, name: fmt.Sprintf("place-%d", store.places.Add(1)), client: client, addr: fmt.Sprint("127.0.0.1:", port),
	}
	eventually(t, "the store makes a bucket", func() bool {
		err := client.MakeBucket(t.Context(), b.name, minio.MakeBucketOptions{})
		return err == nil || minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou
	})
	b.proxy = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", store.addr // the signature is over the host that the client knows
	}, ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }}
	b.listen()
	t.Cleanup(b.close)
	return b
}

func s3Place(t *testing.T) *place { return newBucket(t).place("ndjson") }

func (b *bucket) place(format string) *place {
	return &place{
		yaml: fmt.Sprintf("s3: {endpoint: http://%s, bucket: %s, prefix: events/, access_key: env:S3_ACCESS, secret_key: env:S3_SECRET, "+
			"format: %s, max_age: 20ms, allow_private: true}", b.addr, b.name, format),
		env:     map[string]string{"S3_ACCESS": s3Access, "S3_SECRET": s3Secret},
		rows:    b.rows,
		breakIt: func(*testing.T) func() { b.close(); return b.listen },
		hang: func(*testing.T) func() {
			asleep := make(chan struct{})
			b.set(func() { b.asleep = asleep })
			return func() { close(asleep); b.set(func() { b.asleep = nil }) }
		},
		fill: func(*testing.T) func() {
			b.set(func() { b.full = true })
			return func() { b.set(func() { b.full = false }) }
		},
	}
}

func (b *bucket) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *bucket) listen() {
	l, err := net.Listen("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	server := &http.Server{Handler: b, ReadHeaderTimeout: time.Minute}
	b.set(func() { b.server = server })
	go func() { _ = server.Serve(l) }() // ends with close
}

func (b *bucket) close() { b.set(func() { _ = b.server.Close() }) }

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	full, asleep, cut := b.full, b.asleep, b.cut
	b.mu.Unlock()
	if asleep != nil {
		select {
		case <-asleep:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case full && r.Method == http.MethodPut:
		w.WriteHeader(http.StatusInsufficientStorage)
	case cut != nil && cut(r):
		// Half of the body reaches the store, then both connections end.
		half, _ := io.ReadAll(io.LimitReader(r.Body, r.ContentLength/2))
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		part := r.Clone(ctx)
		part.Body = io.NopCloser(io.MultiReader(bytes.NewReader(half), failing{cancel}))
		b.proxy.ServeHTTP(w, part)
		panic(http.ErrAbortHandler)
	default:
		b.proxy.ServeHTTP(w, r)
	}
}

// failing is where a body breaks off.
type failing struct{ cancel func() }

func (f failing) Read([]byte) (int, error) { f.cancel(); return 0, io.ErrUnexpectedEOF }

// objects are the contents of all objects with events, by name.
func (b *bucket) objects(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for o := range b.client.ListObjectsIter(t.Context(), b.name, minio.ListObjectsOptions{Prefix: "events/", Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if strings.HasPrefix(o.Key, "events/_tercel/") {
			continue
		}
		content, err := b.client.GetObject(t.Context(), b.name, o.Key, minio.GetObjectOptions{})
		if err == nil {
			all[o.Key], err = io.ReadAll(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (b *bucket) rows(t *testing.T) []row {
	t.Helper()
	var rows []row
	for name, content := range b.objects(t) {
		if strings.HasSuffix(name, ".parquet") {
			rows = append(rows, parquetRows(t, content)...)
			continue
		}
		for line := range bytes.Lines(content) {
			var r row
			if err := json.Unmarshal(line, &r, json.RejectUnknownMembers(true)); err != nil {
				t.Fatalf("%s: line %q: %v", name, line, err)
			}
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, sequence)
	return rows
}
