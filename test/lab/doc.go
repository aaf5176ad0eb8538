// Package lab builds small networks out of network namespaces, so that everything that crosses a kernel
// can be tested on one machine: hosts, routers and the links between them, with loss, delay, jitter, rate,
// MTU and reordering, and without netem.
//
//	func TestMain(m *testing.M) { lab.Main(m) }
//
//	func TestPing(t *testing.T) {
//		l := lab.New(t)
//		a, b := l.Host("a"), l.Host("b")
//		l.LAN(lab.Link{Delay: 10 * time.Millisecond, Loss: 0.05}, a, b)
//		a.Run(t, "ping", "-c1", b.Addr4("lan0").String())
//	}
//
// # What is left behind
//
// Nothing. [Main] (and [Enter], for a program that is not a test) runs the process again inside fresh mount,
// network, PID, UTS and IPC namespaces, with a user namespace in addition where the caller is not root. A small
// init in between reaps orphans. When either of them ends, however it ends, the kernel kills everything started
// inside and then removes namespaces, devices and mounts; init dies with the process outside.
//
// # What a host is
//
// A [Host] has a network, a host name, an IPC namespace and a mount namespace of its own. In it /etc, /var/lib,
// /run and /dev/shm are private (the rest of the file system is shared), so that programs with fixed paths run
// once per host: /etc/hosts is a plain file that can be renamed over, and shared memory never crosses hosts.
// Processes are shared: a host sees the others' PIDs.
//
// # What a link is
//
// A [LAN] is a shared segment. Undegraded, it is the kernel's bridge in a namespace where no host is, with one
// veth per member. As soon as its [Link] asks for more than an MTU, the bridge is taken out and frames pass
// through this process, which loses, delays and orders them. Devices, addresses and carrier stay as they are,
// so a link can be degraded while programs use it.
//
// Members get private addresses, or those of [Prefixes]. Package internet builds a small Internet with them: routers, NATs, firewalls and
// proxies, and hosts behind them.
//
// # When it cannot be had
//
// Where rights or /dev/net/tun are missing, [New] skips the test in one line that says what is missing. With
// HNET_LAB=required in the environment the test fails instead.
package lab
