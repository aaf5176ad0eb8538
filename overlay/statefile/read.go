package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// MaxJSON bounds the files of ReadJSON and WriteJSON, in bytes. The largest, a whitelist of 10,000 entries, has about a third.
const MaxJSON = 16 << 20

// ErrDamaged says that a file is there whose content cannot be what was written.
var ErrDamaged = errors.New("is damaged")

// Damaged is the error for a file whose content is not what its owner wrote: what completes the sentence "it ...". It is an
// ErrDamaged.
func Damaged(path, what string) error {
	return fmt.Errorf("%s %w: it %s; restore it from a backup, or move it away to start afresh without it", path, ErrDamaged, what)
}

// Read returns the content of path, which may have max bytes. errors.Is(err, fs.ErrNotExist) tells that there is no file.
func Read(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, explain("read", path, err)
	}
	defer f.Close()
	// Room for all of it at once: a whitelist of 10,000 peers has megabytes, and growing there leaves twice as much garbage.
	var read bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		read.Grow(int(min(info.Size(), max)) + bytes.MinRead)
	}
	if _, err := read.ReadFrom(io.LimitReader(f, max+1)); err != nil {
		return nil, explain("read", path, err)
	}
	b := read.Bytes()
	if int64(len(b)) > max {
		return nil, Damaged(path, fmt.Sprintf("has more than %d bytes", max))
	}
	return b, nil
}

// ReadJSON reads the one JSON value in path into v. A file that is empty, truncated, too long, or has fields that v does
// not know is an ErrDamaged, and stays as it is. errors.Is(err, fs.ErrNotExist) tells that there is no file.
func ReadJSON(path string, v any) error {
	b, err := Read(path, MaxJSON)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return Damaged(path, "is empty")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return Damaged(path, "ends too early")
		}
		return Damaged(path, "is not what this version writes ("+err.Error()+")")
	}
	if _, err := d.Token(); err != io.EOF {
		return Damaged(path, "goes on after its end")
	}
	return nil
}

// WriteJSON writes v as Write does.
func WriteJSON(path string, v any, perm fs.FileMode) error {
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if len(b) >= MaxJSON {
		return fmt.Errorf("cannot write %s: %d bytes are more than the %d it may have", path, len(b), MaxJSON)
	}
	return Write(path, append(b, '\n'), perm)
}
