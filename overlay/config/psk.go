package config

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
)

// ReadPSK reads a preshared key as `wg genpsk` writes it: 32 bytes in base64, white space around them allowed.
// The errors never quote what the file holds.
func ReadPSK(path string) (psk [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return psk, fmt.Errorf("cannot read the preshared key in %s: %v", path, cause(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 257))
	if err != nil {
		return psk, fmt.Errorf("cannot read the preshared key in %s: %v", path, cause(err))
	}
	raw := make([]byte, 256)
	n, err := base64.StdEncoding.Strict().Decode(raw, bytes.TrimSpace(text[:min(len(text), 256)]))
	if err != nil || n != len(psk) || len(text) > 256 {
		return psk, fmt.Errorf("%s holds no preshared key: expected 32 bytes in base64, as 'wg genpsk' writes them", path)
	}
	copy(psk[:], raw)
	if psk == [32]byte{} {
		return psk, fmt.Errorf("the preshared key in %s is all zero, which is none: make one with 'wg genpsk'", path)
	}
	return psk, nil
}
