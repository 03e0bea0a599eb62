package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// startHeld starts a command in which every fsync and fdatasync takes longer by
// d, as on a slower disk: the kernel holds those calls, and no others, until
// this process lets them go on (seccomp_unotify(2), read 2026-11-26). The
// program itself is the same, and its data is synced all the same.
func startHeld(cmd *exec.Cmd, d time.Duration) error {
	started := make(chan error, 1)
	go func() {
		// The filter is the thread's and of what it starts. Never unlocked, the
		// thread ends with this goroutine.
		runtime.LockOSThread()
		listener, err := holdSyncs()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			go letGo(listener, d)
		}
		started <- err
	}()
	return <-started
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
		return 0, fmt.Errorf("hold syncs: %w", err)
	}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return 0, fmt.Errorf("hold syncs: %w", errno)
	}
	return listener, nil
}

// notice is struct seccomp_notif, and release is struct seccomp_notif_resp.
type (
	notice struct {
		id         uint64
		pid, flags uint32
		call       [64]byte // struct seccomp_data
	}
	release struct {
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
				r := release{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
				_, _, _ = unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
			}()
		case unix.EINTR:
		case unix.ENOENT: // a signal has interrupted the call, which comes again; or the process has ended
			time.Sleep(time.Millisecond)
		default:
			return
		}
	}
}
