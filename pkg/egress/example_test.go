package egress_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/tercelhq/tercel/pkg/egress"
)

func ExampleTransport() {
	client := &http.Client{Transport: egress.Transport(egress.Config{AllowPrivate: true, Connections: 4})}
	_, err := client.Get("http://169.254.169.254/latest/meta-data/?token=1")
	told, _ := egress.Failure(context.Background(), err)
	fmt.Println(told)
	// Output: 169.254.169.254 is not an address of a server to call
}
