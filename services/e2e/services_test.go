package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tercelhq/tercel/pkg/natstest"
)

// stages are the services that make a pipeline.
var stages = []string{"ingress", "enricher", "sink", "reconciler"}

// deployment is a running pipeline, in one process or in many.
type deployment struct {
	natsURL func() string       // the server's address as of now
	ingress string              // base URL for webhooks
	parts   map[string]*process // by service name, or "tercel" alone
}

// startApart runs the four services and a NATS server, each in a process of
// its own. config is the pipeline file; its ingress.listen must be ingressAddr.
func startApart(t *testing.T, config, ingressAddr string, env []string) *deployment {
	t.Helper()
	d := &deployment{ingress: "http://" + ingressAddr, parts: map[string]*process{}}
	natsURL := startNATS(t, d.parts)
	d.natsURL = func() string { return natsURL }
	for _, name := range stages {
		health := freeAddr(t)
		d.parts[name] = &process{
			t: t, name: program(t, name), ready: answers("http://" + health + "/readyz"), env: env,
			args: []string{"--config", config, "--nats", natsURL, "--health", health},
		}
		d.parts[name].start()
	}
	return d
}

// startTogether runs tercel up.
func startTogether(t *testing.T, config, ingressAddr, healthAddr string, env []string) *deployment {
	t.Helper()
	listen := freeAddr(t)
	data := filepath.Join(t.TempDir(), "data")
	d := &deployment{ingress: "http://" + ingressAddr, parts: map[string]*process{}}
	up := &process{
		t: t, name: program(t, "tercel"), ready: answers("http://" + healthAddr + "/readyz"), env: env,
		args: []string{"up", "--config", config, "--data", data, "--nats-listen", listen},
	}
	d.parts["tercel"] = up
	up.start()
	d.natsURL = func() string { // it has a new token at every start
		url, err := os.ReadFile(filepath.Join(data, "nats.url"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(url))
	}
	return d
}

// startNATS runs a single server that writes every message to disk before it
// acknowledges it.
func startNATS(t *testing.T, parts map[string]*process) (url string) {
	t.Helper()
	addr := freeAddr(t)
	conf := filepath.Join(t.TempDir(), "nats.conf")
	text := `listen: "` + addr + `"
jetstream: {store_dir: "` + filepath.Join(t.TempDir(), "jetstream") + `", max_mem: 64M, max_file: 4G, sync_interval: always}
`
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := &process{t: t, name: program(t, "nats-server"), ready: listens(addr), args: []string{"-c", conf}}
	parts["nats-server"] = srv
	srv.start()
	return "nats://" + addr
}

// jetStream connects to the deployment's server.
func (d *deployment) jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(d.natsURL(), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, natstest.Patient())
	if err != nil {
		t.Fatal(err)
	}
	return js
}
