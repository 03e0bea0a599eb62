package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// startPostgres runs a PostgreSQL server of the test's own on loopback and
// returns its address. It needs the server's programs, which Debian's package
// postgresql installs.
func startPostgres(t *testing.T) (addr string) {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		if path, err := exec.LookPath("initdb"); err == nil {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		need(t, "PostgreSQL's server programs", exec.ErrNotFound)
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "tercel-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cred := postgresUser(t, dir)
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-A", "trust", "-U", "tercel", "--no-sync", "-E", "UTF8")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	addr = freePort(t)
	_, port, _ := net.SplitHostPort(addr)
	pg := &process{
		t: t, name: filepath.Join(bin, "postgres"), cred: cred,
		// It takes connections before it answers queries.
		ready: func() error {
			return exec.Command(filepath.Join(bin, "pg_isready"), "-h", "127.0.0.1", "-p", port).Run()
		},
		args: []string{"-D", filepath.Join(dir, "data"), "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + dir, "-c", "fsync=off"},
	}
	pg.start()
	return addr
}

// postgresUser is whom the server runs as: it refuses root.
func postgresUser(t *testing.T, dir string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	need(t, "the user postgres, when run as root", err)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(fmt.Errorf("give the data folder to postgres: %w", err))
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
