package host

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// runHelper runs the test binary as another process and returns what it says.
func runHelper(t *testing.T, name string, credential *syscall.Credential) string {
	t.Helper()
	command := helper(name)
	command.SysProcAttr.Credential = credential
	out, err := command.Output()
	if len(out) == 0 {
		t.Fatalf("helper %s says nothing: %v", name, err)
	}
	return string(out)
}

// private mounts an empty folder over path for the rest of the sandbox.
func private(t *testing.T, path string) {
	t.Helper()
	must(t, unix.Mount("tmpfs", path, "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
}

func needRoot(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/uid_map")
	must(t, err)
	if fields := strings.Fields(string(b)); fields[len(fields)-1] == "1" {
		t.Skip("there is only one user in this user namespace: run as root")
	}
}

func TestNoTUN(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		private(t, "/dev/net")
		_, _, err := quiet().OpenDevice(spec)
		if !errors.Is(err, ErrNoTUN) || !strings.Contains(err.Error(), "modprobe tun") || !strings.Contains(err.Error(), "--device /dev/net/tun") {
			t.Errorf("no device file: %v", err)
		}
		if _, err := net.InterfaceByName(spec.Name); err == nil {
			t.Error("there is a device all the same")
		}
		needRoot(t)
		// A number no driver answers to.
		must(t, unix.Mknod(clonePath, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 254))))
		_, _, err = quiet().OpenDevice(spec)
		if !errors.Is(err, ErrNoTUN) || !strings.Contains(err.Error(), "modprobe tun") {
			t.Errorf("no driver: %v", err)
		}
	})
}

func TestNoRights(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		needRoot(t)
		nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
		private(t, "/dev/net")
		must(t, unix.Mknod(clonePath, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))))
		if got := runHelper(t, "try", nobody); !strings.Contains(got, "run as root") || strings.Count(got, "\n") != 1 {
			t.Errorf("with a closed device file: %s", got)
		}
		// As udev sets it up on most systems.
		must(t, os.Chmod(clonePath, 0o666))
		if got := runHelper(t, "try", nobody); !strings.Contains(got, "CAP_NET_ADMIN") || strings.Count(got, "\n") != 1 {
			t.Errorf("making a device: %s", got)
		}
		file, _ := open(t, spec)
		must(t, file.Close())
		if got := runHelper(t, "attach", nobody); !strings.Contains(got, "CAP_NET_ADMIN") {
			t.Errorf("a stranger gets hold of the device of a daemon that does not run: %s", got)
		}
		if got := runHelper(t, "attach", nil); got != "opened\n" {
			t.Errorf("root cannot attach: %s", got)
		}
	})
}

func TestIPv6OffByDefault(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		sysctl(t, "default/disable_ipv6", "1")
		h, log := logging()
		file, _, err := h.OpenDevice(spec)
		must(t, err)
		defer file.Close()
		expect(t, wantedState)
		if log.Len() != 0 {
			t.Errorf("log: %s", log)
		}
		if b, _ := os.ReadFile("/proc/sys/net/ipv6/conf/default/disable_ipv6"); string(b) != "1\n" {
			t.Errorf("the default was changed to %q", b)
		}
		if err := reachOwnAddress(); err != nil {
			t.Errorf("own address: %v", err)
		}
	})
}

func TestIPv6Off(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		sysctl(t, "all/disable_ipv6", "1")
		h, log := logging()
		file, _, err := h.OpenDevice(spec)
		must(t, err)
		defer file.Close()
		expect(t, wantedState)
		// Peers are reached, this host itself is not: the warning is true.
		socket, err := net.ListenUDP("udp6", &net.UDPAddr{IP: ownAddress.AsSlice()})
		must(t, err)
		defer socket.Close()
		deliver(t, file, socket)
		if err := reachOwnAddress(); err == nil {
			t.Error("own address is reached with lo off: the warning is not needed")
		}
		if !strings.Contains(log.String(), "sysctl net.ipv6.conf.lo.disable_ipv6=0") {
			t.Errorf("log: %s", log)
		}
		sysctl(t, "lo/disable_ipv6", "0")
		if err := reachOwnAddress(); err != nil {
			t.Errorf("own address after following the advice: %v", err)
		}
	})
}

// reachOwnAddress sends a datagram from this host to its own overlay address.
func reachOwnAddress() error {
	server, err := net.ListenUDP("udp6", &net.UDPAddr{IP: ownAddress.AsSlice()})
	if err != nil {
		return err
	}
	defer server.Close()
	client, err := net.Dial("udp6", server.LocalAddr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		return err
	}
	// Delivery on the same host happens within the sending call.
	if err := server.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return err
	}
	_, _, err = server.ReadFromUDP(make([]byte, 10))
	return err
}

func TestIPv6OffForGood(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		// As in a container without --sysctl.
		sysctl(t, "all/disable_ipv6", "1")
		must(t, unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
		if err := unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			t.Skip("/proc/sys cannot be made read-only here: run as root:", err)
		}
		_, _, err := quiet().OpenDevice(spec)
		if !errors.Is(err, ErrNoIPv6) || !strings.Contains(err.Error(), "--sysctl net.ipv6.conf.all.disable_ipv6=0") || strings.Contains(err.Error(), "\n") {
			t.Errorf("err = %v", err)
		}
		if _, err := net.InterfaceByName(spec.Name); err == nil {
			t.Error("a half-made device is left")
		}
	})
}

func TestNoIPv6(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		if got := runHelper(t, "noipv6", nil); !strings.Contains(got, ErrNoIPv6.Error()) || !strings.Contains(got, "ipv6.disable=1") || strings.Count(got, "\n") != 1 {
			t.Errorf("helper says %s", got)
		}
	})
}

// denyIPv6 makes this process see a kernel without IPv6: socket(AF_INET6) fails with EAFNOSUPPORT.
func denyIPv6() error {
	const (
		offsetNumber, offsetFirstArgument = 0, 16
		filterAllThreads                  = 1
	)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetFirstArgument},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_INET6, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, filterAllThreads, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

func TestGrowBuffers(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		const wanted = 64 << 20 // more than any system allows without rights
		h, log := logging()
		socket := listen(t)
		must(t, h.GrowBuffers(socket, wanted))
		receive, send := bufferSizes(t, socket)
		if receive < wanted || send < wanted {
			if os.Getuid() != 0 || log.Len() == 0 {
				t.Errorf("buffers are %d and %d bytes, log: %s", receive, send, log)
			}
			t.Skip("the rights to exceed net.core.rmem_max are missing: run as root")
		}
		// A larger buffer is not shrunk.
		must(t, h.GrowBuffers(socket, 1<<20))
		if r, s := bufferSizes(t, socket); r != receive || s != send {
			t.Errorf("buffers went from %d and %d to %d and %d", receive, send, r, s)
		}
		if log.Len() != 0 {
			t.Errorf("log: %s", log)
		}
		socket.Close()
		if err := h.GrowBuffers(socket, wanted); err == nil {
			t.Error("a closed socket was grown")
		}
		needRoot(t)
		got := runHelper(t, "grow", &syscall.Credential{Uid: 65534, Gid: 65534})
		if strings.Count(got, "sysctl net.core.rmem_max=67108864 net.core.wmem_max=67108864") != 1 {
			t.Errorf("without rights: %s", got)
		}
	})
}

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { socket.Close() })
	return socket
}

func bufferSizes(t *testing.T, socket *net.UDPConn) (receive, send int) {
	t.Helper()
	raw, err := socket.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		receive, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		send, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
	}))
	return receive, send
}

// growWithoutRights grows two sockets and says what was logged.
func growWithoutRights() {
	h, log := logging()
	for range 2 {
		socket, err := net.ListenUDP("udp4", nil)
		if err == nil {
			err = h.GrowBuffers(socket, 64<<20)
		}
		if err != nil {
			report(err)
		}
	}
	os.Stdout.WriteString(log.String())
}
