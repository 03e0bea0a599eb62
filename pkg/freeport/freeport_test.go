package freeport_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tercelhq/tercel/pkg/freeport"
)

func TestPortsAreFreeAndDiffer(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 200 {
		port, err := freeport.Find()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port < 1024 || port >= 32768 {
			t.Fatalf("port %d, want one below 32768 that was not given before", port)
		}
		seen[port] = true
	}
}

// While the server of one process is down, no other process is given its port.
func TestNoOtherProcessIsGivenThem(t *testing.T) {
	const most = 2000
	if os.Getenv("FREEPORT_OTHER") != "" {
		for range most {
			port, err := freeport.Find()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Println("given", port)
		}
		return
	}
	ours := map[int]bool{}
	for range 300 {
		port, err := freeport.Find()
		if err != nil {
			t.Fatal(err)
		}
		ours[port] = true
	}
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	other.Env = append(os.Environ(), "FREEPORT_OTHER=1")
	out, err := other.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	theirs := 0
	for line := range strings.Lines(string(out)) {
		var port int
		if _, err := fmt.Sscanf(line, "given %d", &port); err == nil {
			theirs++
			if ours[port] {
				t.Errorf("port %d was given to another process, too", port)
			}
		}
	}
	if theirs != most {
		t.Errorf("another process was given %d ports, want %d", theirs, most)
	}
}

func ExampleFind() {
	port, err := freeport.Find()
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = l.Close() }()
	fmt.Println("listening")
	// Output: listening
}
