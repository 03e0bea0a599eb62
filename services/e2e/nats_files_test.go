package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
	"github.com/tercelhq/tercel/pkg/topology"
)

// natsFolder is where a production server finds its files: those of deploy/nats,
// with the keys of users, and certificates.
type natsFolder struct {
	t       *testing.T
	dir     string
	clients *authority // whose certificates servers show to clients
	routes  *authority // whose certificates servers show each other

	replicas   int                 // of streams
	durability topology.Durability // of what is taken
	monitor    string              // of the last server
}

func newNATSFolder(t *testing.T) *natsFolder {
	t.Helper()

	f := &natsFolder{t: t, replicas: 1, durability: topology.Synced, dir: t.TempDir(), clients: newAuthority(t), routes: newAuthority(t)}
	if err := os.CopyFS(f.dir, os.DirFS("../../deploy/nats")); err != nil {
		t.Fatal(err)
	}
	// With its team, so that it is tested too.
	example, err := os.ReadFile(filepath.Join(f.dir, "teams.example.conf"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(f.dir, "teams.conf"), string(example))
	f.keys()
	f.keys("billing")
	f.clients.issue(filepath.Join(f.dir, "tls", "clients"), 1)
	f.routes.issue(filepath.Join(f.dir, "tls", "routes"), 2)
	return f
}

// keys makes the keys of users that have none.
func (f *natsFolder) keys(users ...string) {
	f.t.Helper()
	if out, err := exec.Command(program(f.t, "tercel"), append([]string{"keys", filepath.Join(f.dir, "secrets")}, users...)...).CombinedOutput(); err != nil {
		f.t.Fatalf("tercel keys: %v\n%s", err, out)
	}
}

func (f *natsFolder) seed(user string) string {
	return filepath.Join(f.dir, "secrets", "seeds", user+".nk")
}

// server is a NATS server as a process, with the files of its folder.
func (f *natsFolder) server(conf, name string, more ...string) (srv *process, url string) {
	f.t.Helper()
	addr, monitor := freeAddr(f.t), freeAddr(f.t)
	host, port, _ := net.SplitHostPort(addr)
	_, monitorPort, _ := net.SplitHostPort(monitor)
	f.monitor = "http://" + monitor
	return &process{
		t: f.t, name: program(f.t, "nats-server"), ready: answers("http://" + monitor + "/healthz"), dir: f.dir, suffix: "-" + name,
		env:  []string{"TERCEL_STORE=" + filepath.Join(f.t.TempDir(), name), "TERCEL_NAME=" + name},
		args: append([]string{"-c", conf, "-a", host, "-p", port, "-m", monitorPort}, more...),
	}, "nats://" + addr
}

// single starts the server of single.conf.
func (f *natsFolder) single() (srv *process, url string) {
	f.t.Helper()
	srv, url = f.server("single.conf", "single")
	srv.start()
	return srv, url
}

// syncs checks that the last server writes to disk before it acknowledges, which
// nothing but a power cut would show.
func (f *natsFolder) syncs() {
	f.t.Helper()
	resp, err := http.Get(f.monitor + "/jsz?config=true")
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	var is struct {
		Config struct {
			SyncAlways bool `json:"sync_always"`
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&is); err != nil || !is.Config.SyncAlways {
		f.t.Errorf("the server syncs always: %t, %v; want it to", is.Config.SyncAlways, err)
	}
}

// section is the pipeline file's sections of a service that connects as user.
func (f *natsFolder) section(user string) string {
	return fmt.Sprintf("nats: {nkey: %q, ca: %q}\nstreams: {setup: command, replicas: %d, durability: %s}\n",
		f.seed(user), f.clients.file(filepath.Join(f.dir, "tls", "clients")), f.replicas, f.durability)
}

// setUp runs tercel setup on a pipeline file without a nats section.
func (f *natsFolder) setUp(url, text string, env []string) {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), "setup.yaml")
	write(f.t, file, text+f.section("admin"))
	cmd := exec.Command(program(f.t, "tercel"), "setup", "-c", file, "--nats", url)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("tercel setup: %v\n%s", err, out)
	}
}

// user is a connection as one of the users, which notes what it is refused.
type user struct {
	*nats.Conn
	js jetstream.JetStream

	mu      sync.Mutex
	refused []string
}

// connect connects as a service does, and as its users are let: with an inbox of
// its own.
func (f *natsFolder) connect(name, url string, more ...nats.Option) *user {
	f.t.Helper()
	u := &user{}
	var err error
	opts := append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				u.mu.Lock()
				defer u.mu.Unlock()
				u.refused = append(u.refused, err.Error())
			}
		}),
	}, more...)
	if u.Conn, err = f.dial(name, url, opts...); err != nil {
		f.t.Fatalf("connect as %s: %v", name, err)
	}
	f.t.Cleanup(u.Close)
	if u.js, err = jetstream.New(u.Conn, natstest.Patient()); err != nil {
		f.t.Fatal(err)
	}
	return u
}

// dial is connect for one that may fail.
func (f *natsFolder) dial(name, url string, more ...nats.Option) (*nats.Conn, error) {
	seed, err := nats.NkeyOptionFromSeed(f.seed(name))
	if err != nil {
		return nil, err
	}
	return nats.Connect(url, append([]nats.Option{
		seed, nats.RootCAs(f.clients.file(filepath.Join(f.dir, "tls", "clients"))), nats.CustomInboxPrefix("_INBOX." + name),
		nats.Timeout(30 * time.Second),
	}, more...)...)
}

// violations are the lines of a server's log that tell of refused permissions.
func (p *process) violations() []string {
	p.t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(strings.ToLower(line), "violation") {
			seen[strings.TrimSpace(line)] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	pem  []byte
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func (*authority) file(dir string) string { return filepath.Join(dir, "ca.crt") }

// issue writes a certificate for loopback servers, its key, and the authority's
// own certificate, under the names that Kubernetes has for them.
func (a *authority) issue(dir string, serial int64) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		a.t.Fatal(err)
	}
	write(a.t, filepath.Join(dir, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(a.t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	write(a.t, a.file(dir), string(a.pem))
}
