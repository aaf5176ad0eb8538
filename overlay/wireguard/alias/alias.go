// Package alias tells how two slices share memory, which matters to ciphers that read and write in the same pass.
package alias

import "unsafe"

// Shifted tells whether two slices share memory otherwise than from the same byte on.
func Shifted(x, y []byte) bool {
	if len(x) == 0 || len(y) == 0 || &x[0] == &y[0] {
		return false
	}
	return uintptr(unsafe.Pointer(&x[0])) <= uintptr(unsafe.Pointer(&y[len(y)-1])) && uintptr(unsafe.Pointer(&y[0])) <= uintptr(unsafe.Pointer(&x[len(x)-1]))
}
