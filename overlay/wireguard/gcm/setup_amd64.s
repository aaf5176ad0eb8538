//go:build !purego

#include "textflag.h"

// The rounds of the key schedule (FIPS 197 §5.2) by AESKEYGENASSIST, which looks nothing up in memory.

// FOLD adds to each word of k the words before it, which is what the schedule's recurrence comes to for four words at once, and then X2.
#define FOLD(k) \
	VPSLLDQ $4, k, X3 \
	VPXOR   X3, k, k  \
	VPSLLDQ $8, k, X3 \
	VPXOR   X3, k, k  \
	VPXOR   X2, k, k

// EVEN makes the round key with an even number from that before it (X1) and that two before it (X0).
#define EVEN(rcon, at) \
	VAESKEYGENASSIST rcon, X1, X2 \
	VPSHUFD $0xff, X2, X2         \
	FOLD(X0)                      \
	VMOVDQU X0, at(AX)

// ODD makes that with an odd number: a substitution without rotation, no constant.
#define ODD(at) \
	VAESKEYGENASSIST $0, X0, X2 \
	VPSHUFD $0xaa, X2, X2       \
	FOLD(X1)                    \
	VMOVDQU X1, at(AX)

// func expandKey(rounds *[15][16]byte, key *byte)
TEXT ·expandKey(SB), NOSPLIT, $0-16
	MOVQ    rounds+0(FP), AX
	MOVQ    key+8(FP), BX
	VMOVDQU (BX), X0
	VMOVDQU 16(BX), X1
	VMOVDQU X0, (AX)
	VMOVDQU X1, 16(AX)
	EVEN($0x01, 32)
	ODD(48)
	EVEN($0x02, 64)
	ODD(80)
	EVEN($0x04, 96)
	ODD(112)
	EVEN($0x08, 128)
	ODD(144)
	EVEN($0x10, 160)
	ODD(176)
	EVEN($0x20, 192)
	ODD(208)
	EVEN($0x40, 224)
	RET

// func expandPowers(s *schedule)
// It makes H^2 … H^33 of H^1, each by one multiplication as it is explained in gcm_amd64.s.
TEXT ·expandPowers(SB), NOSPLIT, $0-8
	MOVQ       s+0(FP), AX
	LEAQ       752(AX), AX                // H^1 is powers[32]
	VMOVDQU    (AX), X0
	VMOVDQA    X0, X1
	MOVQ       $0xc200000000000000, BX
	VMOVQ      BX, X7
	MOVQ       $32, CX

next:
	VPCLMULQDQ $0x00, X0, X1, X2
	VPCLMULQDQ $0x01, X0, X1, X3
	VPCLMULQDQ $0x10, X0, X1, X4
	VPCLMULQDQ $0x11, X0, X1, X5
	VPXOR      X4, X3, X3
	VPCLMULQDQ $0x00, X7, X2, X4
	VPSHUFD    $0x4e, X2, X2
	VPXOR      X2, X3, X3
	VPXOR      X4, X3, X3
	VPCLMULQDQ $0x00, X7, X3, X4
	VPSHUFD    $0x4e, X3, X3
	VPXOR      X3, X5, X5
	VPXOR      X4, X5, X1
	SUBQ       $16, AX
	VMOVDQU    X1, (AX)
	DECQ       CX
	JNZ        next
	RET
