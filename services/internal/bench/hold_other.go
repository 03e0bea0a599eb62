//go:build !linux

package main

import (
	"errors"
	"os/exec"
	"time"
)

func startHeld(*exec.Cmd, time.Duration) error { return errors.New("hold syncs: only Linux can") }
