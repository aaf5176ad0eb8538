// Package arm64 runs what is built for arm64 on this machine's processor, by qemu's emulation of one process: the tests of the packages in which
// byte order, alignment, assembly or floating point could differ, and one hnetd of each kind that talk to each other. Speed means nothing there.
//
// Tests that ask the kernel for what the emulation does not pass on are left out by name, with the reason beside them.
package arm64
