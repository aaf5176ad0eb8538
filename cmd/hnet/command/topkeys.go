package command

import (
	"os"

	"golang.org/x/term"
)

// key is one that was pressed, as far as anybody wants to know.
type key byte

// The keys. Others stand for the letters on them.
const (
	keyUp key = iota + 1
	keyDown
	keyRight
	keyLeft
	keyPageUp
	keyPageDown
)

// terminalKeys reads the keyboard key by key until restore is called. Without one there are no keys.
func terminalKeys() (keys <-chan key, restore func(), err error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, func() {}, nil
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, nil, err
	}
	pressed := make(chan key)
	// It ends with the program: a read of a terminal cannot be called back.
	go func() {
		b := make([]byte, 64)
		for {
			n, err := os.Stdin.Read(b)
			if err != nil {
				return
			}
			for _, k := range readKeys(b[:n]) {
				pressed <- k
			}
		}
	}()
	return pressed, func() { term.Restore(fd, before) }, nil
}

var sequences = map[string]key{
	"\x1b[A": keyUp, "\x1b[B": keyDown, "\x1b[C": keyRight, "\x1b[D": keyLeft, "\x1b[5~": keyPageUp, "\x1b[6~": keyPageDown,
	"\x1bOA": keyUp, "\x1bOB": keyDown, "\x1bOC": keyRight, "\x1bOD": keyLeft,
}

const ctrlC = 3

// readKeys turns what a terminal sends into keys. Sequences that mean nothing here are passed over.
func readKeys(b []byte) (keys []key) {
	for len(b) > 0 {
		if b[0] != 0x1b || len(b) == 1 {
			k := key(b[0])
			if b[0] == ctrlC || b[0] == 0x1b {
				k = 'q'
			}
			if k >= ' ' {
				keys = append(keys, k)
			}
			b = b[1:]
			continue
		}
		// ESC [ or ESC O, up to a letter or ~.
		n := 2
		for n < len(b) && !(b[n] >= '@' && b[n] <= '~') {
			n++
		}
		n = min(n+1, len(b))
		if k, ok := sequences[string(b[:n])]; ok {
			keys = append(keys, k)
		}
		b = b[n:]
	}
	return keys
}
