//go:build !unix

package aeadtest

import "testing"

func (p Pair) besideNoMemory(t *testing.T) { t.Skip("no fences in memory here") }

func (p Pair) forgedBesideNoMemory(t *testing.T) { t.Skip("no fences in memory here") }
