package e2e_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A webhook was taken in under a configuration that found its type in the wrong
// place. Once that is mended, it is judged anew by the command line, and becomes
// the event that it is; under another secret it is not taken, and each check says
// what it found.
func TestAStoredWebhookIsJudgedByTheConfigurationOfNow(t *testing.T) {
	t.Parallel()
	crm := &receiver{got: map[string]int{}}
	crm.mended.Store(true)
	srv := httptest.NewServer(crm)
	defer srv.Close()
	dir := t.TempDir()
	file, in, console, health := filepath.Join(dir, "tercel.yaml"), freeAddr(t), freeAddr(t), freeAddr(t)
	config := func(edits ...string) {
		write(t, file, strings.NewReplacer(edits...).Replace(fmt.Sprintf(consoleConfig, srv.URL, filepath.Join(dir, "archive.db"), in, console, health)))
	}
	config("type: body.kind", "type: body.topic")
	d := startTogether(t, file, in, health, []string{"SHOP_SECRET=" + shopSecret, "NEW_SECRET=another webhook secret of a test", "CRM_SECRET=whsec_dGhlIGNybSdzIHNpZ25pbmcgc2VjcmV0"})
	if err := deliver("http://"+in+"/v1/shop", "d-1", `{"kind":"order.paid","topic":"wrong"}`); err != nil {
		t.Fatal(err)
	}
	tercel := func(args ...string) (string, error) {
		cmd := exec.Command(program(t, "tercel"), append(args, "--api", "http://"+console)...)
		cmd.Env = os.Environ()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	restart := func(edits ...string) {
		d.parts["tercel"].stop()
		config(edits...)
		d.parts["tercel"].start()
	}
	replay := []string{"event", "replay", "d-1", "--from", "verify", "--reason", "the type was wrong", "--yes", "--limit", "1", "--wait", "0s"}
	restart("env:SHOP_SECRET", "env:NEW_SECRET")
	eventually(t, time.Minute, "it is refused under another secret", func() error {
		out, err := tercel(replay...)
		if err == nil || !strings.Contains(out, "not accepted: signature match") || !strings.Contains(out, "signature match failed") || !strings.Contains(out, "event type not reached") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
	restart()
	eventually(t, time.Minute, "it is sent by the configuration of now", func() error {
		out, err := tercel(replay...)
		if err != nil || !strings.Contains(out, "1/1 sent") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
	eventually(t, time.Minute, "the timeline tells it", func() error {
		out, err := tercel("event", "trace", "d-1")
		if err != nil || !strings.Contains(out, "after its request was checked again") || !strings.Contains(out, "as order.paid") || !strings.Contains(out, "by env:SHOP_SECRET") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
}
