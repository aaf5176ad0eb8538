package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

const (
	fileHeader = "hnet identity v1\n" +
		"# The secret key of this node. Keep a backup, show it to nobody, use it on one machine only.\n"
	seedLabel    = "seed: "
	addressLine  = "address: "
	maxFileLen   = 4096
	createAgain  = 3 // attempts; one more than ever needed
	newOrRestore = "restore it from a backup, or move it away to get a new identity with a NEW address"
)

// LoadOrCreate reads the identity kept in the file path, or creates one if there is no file; created tells which.
// A file that is damaged, open to others, not ours or not a plain file is refused and left as it is. Of processes that
// create at once one wins and all return its identity.
func LoadOrCreate(path string) (id *Identity, created bool, err error) {
	for range createAgain {
		if id, err = load(path); !errors.Is(err, fs.ErrNotExist) {
			return id, false, err
		}
		if id, err = create(path); err == nil {
			return id, true, nil
		}
		// Another process came first, or swept our unfinished file with those of a crash.
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
	}
	return nil, false, err
}

func create(path string) (*Identity, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot create the folder of the identity: %w; create it by hand, or use another state folder", err)
	}
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	id := FromSeed(seed)
	return id, statefile.Create(path, id.marshal(), 0o600)
}

func load(path string) (*Identity, error) {
	// Not blocking: a named pipe in the place of the file must not stop the start.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return nil, refusal(path, "is a symbolic link", "put the file itself there")
	case errors.Is(err, fs.ErrPermission):
		return nil, refusal(path, "may not be read by this user", "run as its owner, or chown it")
	case err != nil:
		return nil, fmt.Errorf("cannot open the identity file: %w; repair its folder, or use another state folder", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot examine the identity file: %w", err)
	}
	if err := checkFile(path, info); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFileLen+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the identity file: %w", err)
	}
	id, err := parse(b)
	if err != nil {
		return nil, refusal(path, err.Error(), newOrRestore)
	}
	return id, nil
}

// checkFile refuses what others could have read or written.
func checkFile(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		kind := "is no plain file"
		if info.IsDir() {
			kind = "is a folder"
		}
		return refusal(path, kind, "move it away, and restore the file from a backup if there was one")
	}
	if owner, me := info.Sys().(*syscall.Stat_t).Uid, os.Geteuid(); int(owner) != me {
		return refusal(path, fmt.Sprintf("belongs to user %d, not to user %d who runs this", owner, me), fmt.Sprintf("chown %d it if you trust its content", me))
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return refusal(path, fmt.Sprintf("is open to other users (mode %04o)", perm), "chmod 600 it; if others may have read it, move it away to get a new identity with a NEW address")
	}
	return nil
}

func refusal(path, what, fix string) error {
	return fmt.Errorf("identity file %s %s: %s", path, what, fix)
}

// marshal is the one form of the file; the address is the check of the seed.
func (id *Identity) marshal() []byte {
	return fmt.Appendf(nil, "%s%s%s\n%s%v\n", fileHeader, seedLabel, hex.EncodeToString(id.seed[:]), addressLine, id.address)
}

// parse accepts exactly what marshal makes. Its errors complete the sentence "the file ...", and never quote the content.
func parse(b []byte) (*Identity, error) {
	if len(b) == 0 {
		return nil, errors.New("is empty")
	}
	rest, ok := strings.CutPrefix(string(b), fileHeader)
	if !ok {
		return nil, errors.New("is damaged (it does not begin as an identity file does)")
	}
	line, _, _ := strings.Cut(rest, "\n")
	digits, ok := strings.CutPrefix(line, seedLabel)
	seed, err := hex.DecodeString(digits)
	if !ok || err != nil || len(seed) != 32 {
		return nil, errors.New("is damaged (its seed is not 64 hexadecimal digits)")
	}
	id := FromSeed([32]byte(seed))
	if !bytes.Equal(b, id.marshal()) {
		return nil, errors.New("is damaged (its seed and its address do not belong together, or something is missing or added)")
	}
	return id, nil
}
