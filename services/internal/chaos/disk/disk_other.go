//go:build !linux

package disk

import (
	"errors"
	"os"
)

func shutDown(string) error { return errors.ErrUnsupported }

func allocateAll(*os.File) error { return errors.ErrUnsupported }
