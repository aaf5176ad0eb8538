//go:build !purego

#include "textflag.h"

// func sumAVX2(b *byte, n int) uint64
//
// Adds n bytes, a multiple of 64 above 0, as little-endian 32-bit words. Words are spread to 64-bit lanes, where 65,535 bytes
// of them cannot overflow: there is no carry to wait for, as there is in a chain of additions.
TEXT ·sumAVX2(SB), NOSPLIT, $0-24
	MOVQ b+0(FP), SI
	MOVQ n+8(FP), CX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	VPCMPEQD Y7, Y7, Y7
	VPSRLQ $32, Y7, Y7 // the low word of each lane

loop:
	VMOVDQU (SI), Y4
	VMOVDQU 32(SI), Y5
	VPSRLQ $32, Y4, Y6
	VPSRLQ $32, Y5, Y8
	VPAND Y7, Y4, Y4
	VPAND Y7, Y5, Y5
	VPADDQ Y4, Y0, Y0
	VPADDQ Y6, Y1, Y1
	VPADDQ Y5, Y2, Y2
	VPADDQ Y8, Y3, Y3
	ADDQ $64, SI
	SUBQ $64, CX
	JNE loop

	VPADDQ Y1, Y0, Y0
	VPADDQ Y3, Y2, Y2
	VPADDQ Y2, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPADDQ X1, X0, X0
	VPSHUFD $0xee, X0, X1
	VPADDQ X1, X0, X0
	VMOVQ X0, AX
	VZEROUPPER
	MOVQ AX, ret+16(FP)
	RET
