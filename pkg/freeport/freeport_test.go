package freeport_test

import (
	"fmt"
	"net"
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
