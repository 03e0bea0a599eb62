//go:build containers

package containers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tercelhq/tercel/services/internal/simulator"
)

// provider is where compose.override.yaml publishes what the provider has done.
const provider = "http://127.0.0.1:8090"

// services are the containers of Tercel's own.
var services = []string{"ingress-1", "ingress-2", "enricher", "sink", "reconciler", "console"}

// A node of the cluster and two services die while webhooks come in. All that was
// accepted is in the database once, nothing that was refused is, and what was never
// sent has been found.
func TestNothingIsLostWhenPartsDie(t *testing.T) {
	confined(t)
	accepted(t, 100)
	node := leader(t, "TERCEL_RAW")
	kill(t, node)
	accepted(t, 100)
	kill(t, "ingress-1")
	kill(t, "sink")
	accepted(t, 100)
	start(t, node)
	start(t, "ingress-1")
	start(t, "sink")
	if p := progress(t); p.Done {
		t.Error("all webhooks were sent before the parts were back; let there be more")
	}
	eventually(t, 2*time.Minute, "all webhooks are sent", func() error {
		if p := progress(t); !p.Done {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	var book simulator.Book
	get(t, provider+"/simulation/book", &book)
	far := open(t)
	eventually(t, 2*time.Minute, "the database has what the provider did", func() error { return far.compare(t.Context(), book) })
	t.Logf("%+v", book.Counts())
	scraped(t)
	dashboards(t)
	ended(t)
}

// confined checks how the containers run.
func confined(t *testing.T) {
	for _, s := range services {
		var c []struct {
			Config     struct{ User string }
			HostConfig struct {
				ReadonlyRootfs bool
				CapDrop        []string
				SecurityOpt    []string
			}
		}
		if err := json.Unmarshal(docker(t, "inspect", container(s)), &c); err != nil || len(c) != 1 {
			t.Fatalf("inspect %s: %v", s, err)
		}
		h := c[0].HostConfig
		if c[0].Config.User != "65532:65532" || !h.ReadonlyRootfs || strings.Join(h.CapDrop, " ") != "ALL" || !strings.Contains(strings.Join(h.SecurityOpt, " "), "no-new-privileges") {
			t.Errorf("%s runs as %s, with %+v", s, c[0].Config.User, h)
		}
	}
}

// accepted waits until n more webhooks have been taken in.
func accepted(t *testing.T, n int) {
	t.Helper()
	before := progress(t).Accepted
	eventually(t, 2*time.Minute, fmt.Sprintf("%d more webhooks are accepted", n), func() error {
		if p := progress(t); p.Accepted < before+n {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
}

func progress(t *testing.T) (p simulator.Progress) {
	t.Helper()
	get(t, provider+"/simulation", &p)
	return p
}

// leader is the node that leads a stream.
func leader(t *testing.T, stream string) (node string) {
	t.Helper()
	eventually(t, time.Minute, stream+" has a leader", func() error {
		var jsz struct {
			Accounts []struct {
				Streams []struct {
					Name    string
					Cluster struct{ Leader string }
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		// Another node may have it without being told yet by whom it is led.
		out := docker(t, "exec", container("nats-0"), "wget", "-q", "-O", "-", "http://127.0.0.1:8222/jsz?streams=true")
		if err := json.Unmarshal(out, &jsz); err != nil {
			return err
		}
		for _, a := range jsz.Accounts {
			for _, s := range a.Streams {
				if s.Name == stream {
					node = s.Cluster.Leader
				}
			}
		}
		if node == "" {
			return errors.New("none is named")
		}
		return nil
	})
	return node
}

func container(service string) string { return "tercel_" + service + "_1" }

func kill(t *testing.T, service string) {
	t.Helper()
	docker(t, "kill", container(service))
	t.Logf("killed %s at %+v", service, progress(t))
}

// start starts a container again and waits until it is healthy.
func start(t *testing.T, service string) {
	t.Helper()
	docker(t, "start", container(service))
	eventually(t, 2*time.Minute, service+" is healthy again", func() error {
		if is := strings.TrimSpace(string(docker(t, "inspect", "--format", "{{.State.Health.Status}}", container(service)))); is != "healthy" {
			return errors.New(is)
		}
		return nil
	})
}

// ended stops the services and checks that each ends by itself and well.
func ended(t *testing.T) {
	var all []string
	for _, s := range services {
		all = append(all, container(s))
	}
	docker(t, append([]string{"stop", "--time", "60"}, all...)...)
	for _, c := range all {
		if code := strings.TrimSpace(string(docker(t, "inspect", "--format", "{{.State.ExitCode}}", c))); code != "0" {
			t.Errorf("%s ended with %s, want 0", c, code)
		}
	}
}

func docker(t *testing.T, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out
}

func get(t *testing.T, url string, v any) {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, within time.Duration, what string, ok func() error) {
	t.Helper()
	for deadline := time.Now().Add(within); ; {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", within, what, err)
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}
