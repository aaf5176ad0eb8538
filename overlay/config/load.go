package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Load reads the configuration file and the preshared keys it names. A file that is not there is an empty one.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	if err != nil {
		return Config{}, &Error{File: path, Text: fmt.Sprintf("cannot read the configuration: %v", cause(err))}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return Config{}, &Error{File: path, Text: fmt.Sprintf("cannot read the configuration: %v", cause(err))}
	}
	c, err := Parse(path, data)
	if err != nil {
		return Config{}, err
	}
	for i := range c.Peers {
		p := &c.Peers[i]
		if p.PSKFile == "" {
			continue
		}
		psk, err := ReadPSK(p.PSKFile)
		if err != nil {
			return Config{}, &Error{File: path, Line: p.pskLine, Text: fmt.Sprintf("psk_file: %v", err)}
		}
		p.PSK = &psk
	}
	return c, nil
}

// cause is err without the operation and path that the caller names itself.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
