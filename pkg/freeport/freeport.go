// Package freeport finds ports for servers that tests and benchmarks start, stop
// and start again.
//
// A port that the system chose is no good for that: while its server is down the
// system may give it to somebody else, even to an outgoing connection.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Systems choose from 32768 (Linux) or 49152 upwards; what is known by a fixed
// port mostly stands below 10000.
const lowest, beyond = 10000, 32768

// given are the ports that this process has been given.
var given sync.Map

// Find returns a port of 127.0.0.1 that nobody listens on, that no system gives
// to those who ask for any, and that this process was not given before. Another
// process that asks for one gets the same with a probability of 1 in 20,000. It
// is safe for concurrent use.
func Find() (int, error) {
	for range 1000 {
		port := lowest + rand.IntN(beyond-lowest)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port found")
}
