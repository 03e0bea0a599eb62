package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const accountsConfig = `
sources:
  orders:
    verify: {scheme: hmac-sha256, header: X-Signature}
    secrets: [env:ORDERS_SECRET]
    event: {id: body.id, type: body.kind}
    accounts: {bucket: tercel_accounts}
seal_keys: [env:SEAL_KEY]
`

// Where users have nkeys and servers certificates of their own authority, an operator
// reaches the buckets of accounts as the pipeline file says, and nobody else does.
func TestTheCommandLineConnectsAsTheFileSays(t *testing.T) {
	t.Parallel()
	f := newNATSFolder(t)
	_, url := f.single()
	env := []string{"ORDERS_SECRET=" + orderSecret, "SEAL_KEY=a seal key of more than thirty-two characters"}
	f.setUp(url, accountsConfig, env)
	dir := t.TempDir()
	as := func(name, section string) (config string) {
		config = filepath.Join(dir, name+".yaml")
		write(t, config, accountsConfig+section)
		return config
	}
	run := func(args ...string) (string, error) {
		cmd := exec.Command(program(t, "tercel"), append(args, "--data", dir)...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	admin := as("admin", strings.Replace(f.section("admin"), "nats: {", "nats: {url: \""+url+"\", ", 1))
	if out, err := run("accounts", "set", "-c", admin, "orders", "acct_1", "--secret", "env:ORDERS_SECRET"); err != nil {
		t.Fatalf("accounts set: %v\n%s", err, out)
	}
	if out, err := run("accounts", "list", "-c", admin, "orders"); err != nil || !strings.Contains(out, "acct_1") {
		t.Errorf("accounts list: %v\n%s", err, out)
	}
	request := filepath.Join(dir, "request.http")
	write(t, request, "POST /v1/orders/acct_1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	if out, err := run("verify", "-c", admin, "--source", "orders", request); err == nil || !strings.Contains(out, "refused with 401") {
		t.Errorf("verify: %v; want the account known and its request refused\n%s", err, out)
	}
	for name, tt := range map[string]struct{ config, more, want string }{
		"no user":             {as("nobody", `nats: {ca: "`+f.clients.file(filepath.Join(f.dir, "tls", "clients"))+`"}`+"\n"), "", "say who connects: nkey, credentials, or user and password in the nats section of "},
		"no authority":        {as("unsure", `nats: {nkey: "`+f.seed("admin")+`"}`+"\n"), "", "as nats.ca in "},
		"another user by URL": {admin, "someone:else@", "Authorization Violation"},
	} {
		out, err := run("accounts", "list", "-c", tt.config, "orders", "--nats", strings.Replace(url, "//", "//"+tt.more, 1))
		if err == nil || !strings.Contains(out, tt.want) || strings.Contains(out, "else@") {
			t.Errorf("%s: %v, want %q\n%s", name, err, tt.want, out)
		}
	}
}
