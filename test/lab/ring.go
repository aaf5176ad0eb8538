package lab

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is an AF_PACKET socket on one device, with the kernel's ring of received frames mapped.
type ring struct {
	fd    int
	file  *os.File // owns fd, and waits through the runtime's poller
	raw   syscall.RawConn
	mem   []byte
	slot  int // size of one frame's place
	slots int
	next  int
}

// ringFrame is a frame in the ring; data is valid until the callback that got it returns.
type ringFrame struct {
	data []byte
	len  int // on the device; more than len(data) if it did not fit
	time time.Time
	out  bool // sent by this machine
}

const (
	ringBlock  = 1 << 18
	ringMemory = 1 << 23
	// slotHeader is what the kernel puts in front of a frame, rounded up.
	slotHeader = 128
)

// openRing opens a ring on a device of the calling thread's network namespace. It takes frames of up to size
// bytes whole; frames that this machine sends only if outgoing.
func openRing(index, size int, outgoing bool) (*ring, error) {
	r := &ring{slot: 2048}
	for r.slot < size+slotHeader {
		r.slot *= 2
	}
	r.slots = ringMemory / r.slot
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open a packet socket: %w", err)
	}
	r.fd, r.file = fd, os.NewFile(uintptr(fd), "packet socket")
	if err := r.setUp(index, outgoing); err != nil {
		r.file.Close()
		return nil, fmt.Errorf("cannot set up a packet socket: %w", err)
	}
	return r, nil
}

func (r *ring) setUp(index int, outgoing bool) error {
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return err
	}
	if !outgoing {
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
	}
	req := unix.TpacketReq{Block_size: ringBlock, Block_nr: ringMemory / ringBlock, Frame_size: uint32(r.slot), Frame_nr: uint32(r.slots)}
	if err := unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return err
	}
	all := uint16(unix.ETH_P_ALL)
	if err := unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index}); err != nil {
		return err
	}
	var err error
	if r.raw, err = r.file.SyscallConn(); err != nil {
		return err
	}
	r.mem, err = unix.Mmap(r.fd, 0, ringMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

// wait blocks until take has got at least one frame. The error is os.ErrClosed or os.ErrDeadlineExceeded when
// interrupt was called.
func (r *ring) wait(take func(ringFrame)) error {
	return r.raw.Read(func(uintptr) bool { return r.drain(take) > 0 })
}

// drain passes on what is in the ring, at most as much as it holds.
func (r *ring) drain(take func(ringFrame)) (n int) {
	for n < r.slots {
		place := r.mem[r.next*r.slot : (r.next+1)*r.slot]
		head := (*unix.Tpacket2Hdr)(unsafe.Pointer(&place[0]))
		if atomic.LoadUint32(&head.Status)&unix.TP_STATUS_USER == 0 {
			return n
		}
		from := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&place[unix.SizeofTpacket2Hdr]))
		take(ringFrame{
			data: place[head.Mac : int(head.Mac)+int(head.Snaplen)],
			len:  int(head.Len),
			time: time.Unix(int64(head.Sec), int64(head.Nsec)),
			out:  from.Pkttype == unix.PACKET_OUTGOING,
		})
		atomic.StoreUint32(&head.Status, unix.TP_STATUS_KERNEL)
		r.next = (r.next + 1) % r.slots
		n++
	}
	return n
}

// send puts a frame on the device; it never blocks.
func (r *ring) send(frame []byte) error {
	_, err := unix.Write(r.fd, frame)
	if errors.Is(err, unix.ENETDOWN) {
		// What the socket still remembers of a time when the device was down; reported once.
		_, err = unix.Write(r.fd, frame)
	}
	return err
}

// dropped returns how many frames found the ring full since the last call.
func (r *ring) dropped() int {
	s, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return int(s.Drops)
}

// interrupt makes wait return.
func (r *ring) interrupt() { r.file.SetReadDeadline(time.Unix(1, 0)) }

// close frees the ring; no method may be running.
func (r *ring) close() {
	r.file.Close()
	unix.Munmap(r.mem)
}
