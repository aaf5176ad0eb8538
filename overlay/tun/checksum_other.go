//go:build !amd64 || purego

package tun

func sumWide([]byte) (sum uint64, n int) { return 0, 0 }
