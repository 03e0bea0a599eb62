package sink_test

import (
	"errors"

	"github.com/tercelhq/tercel/services/sink"
)

func fillUp(sink.Writer) error { return errors.New("this system has no limit on the size of files") }
