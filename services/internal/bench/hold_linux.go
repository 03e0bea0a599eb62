package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// heldVariable tells the server that its syncs are held already, and
// listenerFile is the descriptor by which the process that holds them is told of
// each.
const (
	heldVariable = "BENCH_HELD"
	listenerFile = 3
)

// serveHeld makes this process the server, in which every fsync and fdatasync
// takes longer, as on a slower disk: the kernel holds those calls, and no others,
// until a process of its own lets them go on (seccomp_unotify(2), read
// 2026-11-26). The program itself is the same, and its data is synced all the
// same.
func serveHeld(p part) error {
	// The filter is the thread's, and of what it starts or becomes.
	runtime.LockOSThread()
	listener, err := holdSyncs()
	if err != nil {
		return fmt.Errorf("hold syncs: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(part{Hold: p.Hold})
	if err != nil {
		return err
	}
	release := exec.Command(self, "as", "release", string(text))
	release.ExtraFiles = []*os.File{os.NewFile(listener, "syncs")}
	release.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := release.Start(); err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), heldVariable+"=yes"))
}

// holdSyncs makes the kernel tell of this thread's syncs before it does them.
func holdSyncs() (listener uintptr, err error) {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FSYNC, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FDATASYNC, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return 0, errno
	}
	return listener, nil
}

// notice is struct seccomp_notif, and answer is struct seccomp_notif_resp.
type (
	notice struct {
		id         uint64
		pid, flags uint32
		call       [64]byte // struct seccomp_data
	}
	answer struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
)

// letGo lets each sync go on after d. Those of several threads are held at the
// same time.
func letGo(listener uintptr, d time.Duration) {
	for {
		n := notice{} // the kernel demands zeros
		switch _, _, errno := unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno {
		case 0:
			go func() {
				time.Sleep(d)
				a := answer{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
				_, _, _ = unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
			}()
		case unix.EINTR:
		case unix.ENOENT: // a signal has interrupted the call, which comes again; or the process has ended
			time.Sleep(time.Millisecond)
		default:
			return
		}
	}
}
