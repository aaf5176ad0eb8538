//go:build !purego

#include "textflag.h"

// Registers of both functions
//
//	AX  *schedule          BX  source, advancing   CX  bytes left
//	DX  destination        SI  powers to multiply the next blocks with
//	Z0  … Z3   sixteen counter blocks becoming key stream, becoming output
//	Z4  … Z7   the sixteen blocks of ciphertext to be hashed next, byte-reversed
//	Z8, Z9, Z10  sums of products: low, middle and high (see MULTIPLY); after REDUCE Z10 is the hash so far, in four parts
//	Z11 … Z13  scratch     Z14  counters of the next 64 bytes, byte-reversed
//	Z15 byte reversal      Z16  the polynomial
//	Z17 … Z31  round keys 0 … 14, each four times

// COUNTERS makes the counter blocks of the next 256 bytes (SP 800-38D §6.5). A counter is big-endian; as blocks are kept byte-reversed it is the first
// 32-bit word of each, and addition to that alone wraps as inc32 does. Each is made of the same register, so that none waits for another.
#define COUNTERS \
	VPADDD  ·plus4<>(SB), Z14, Z1    \
	VPADDD  ·plus8<>(SB), Z14, Z2    \
	VPADDD  ·plus12<>(SB), Z14, Z3   \
	VPSHUFB Z15, Z14, Z0             \
	VPADDD  ·plus16<>(SB), Z14, Z14  \
	VPSHUFB Z15, Z1, Z1              \
	VPSHUFB Z15, Z2, Z2              \
	VPSHUFB Z15, Z3, Z3              \
	VPXORD  Z17, Z0, Z0              \
	VPXORD  Z17, Z1, Z1              \
	VPXORD  Z17, Z2, Z2              \
	VPXORD  Z17, Z3, Z3

// ROUND is one round of AES (FIPS 197 §5.1) on sixteen blocks.
#define ROUND(k) \
	VAESENC k, Z0, Z0 \
	VAESENC k, Z1, Z1 \
	VAESENC k, Z2, Z2 \
	VAESENC k, Z3, Z3

// LAST is the last round on the blocks in z, and adds 64 bytes of input: to the round key, which is known before the state is.
#define LAST(at, z) \
	VPXORD      at(BX), Z31, Z11 \
	VAESENCLAST Z11, z, z

// MULTIPLY adds to the sums the products of the blocks in z and the powers in Z12, without carries and without reduction: the low halves' products to Z8,
// the high ones' to Z10, and the mixed ones' to Z9, whose place is between.
#define MULTIPLY(z) \
	VPCLMULQDQ $0x00, Z12, z, Z11 \
	VPXORD     Z11, Z8, Z8        \
	VPCLMULQDQ $0x11, Z12, z, Z13 \
	VPXORD     Z13, Z10, Z10      \
	VPCLMULQDQ $0x01, Z12, z, Z11 \
	VPCLMULQDQ $0x10, Z12, z, Z13 \
	VPTERNLOGD $0x96, Z11, Z13, Z9

// MULTIPLY0 is MULTIPLY where the sums are still nothing.
#define MULTIPLY0(z) \
	VPCLMULQDQ $0x00, Z12, z, Z8  \
	VPCLMULQDQ $0x11, Z12, z, Z10 \
	VPCLMULQDQ $0x01, Z12, z, Z9  \
	VPCLMULQDQ $0x10, Z12, z, Z11 \
	VPXORD     Z11, Z9, Z9

// REDUCE makes of the sums of 256 bits their remainder in GF(2^128), in Z10. A bit-reflected product lacks a factor of x, which the powers have (timesX);
// its low half vanishes 64 bits at a time by adding multiples of the polynomial, whose lowest 64 bits are 1, and the next 64 bits 0xc2 << 56.
#define REDUCE \
	VPCLMULQDQ $0x00, Z16, Z8, Z11 \
	VPSHUFD    $0x4e, Z8, Z8       \
	VPTERNLOGD $0x96, Z11, Z8, Z9  \
	VPCLMULQDQ $0x00, Z16, Z9, Z11 \
	VPSHUFD    $0x4e, Z9, Z9       \
	VPTERNLOGD $0x96, Z11, Z9, Z10

// STRIDE loads the same power for four blocks side by side.
#define STRIDE(power) \
	VBROADCASTI32X4 ((33-power)*16+240)(AX), Z12

// SETUP loads the arguments and what both functions need. The nonce is loaded in the pieces in which it was probably just written.
#define SETUP \
	MOVQ            s+0(FP), AX             \
	MOVQ            nonce+8(FP), R8         \
	MOVQ            dst+16(FP), DX          \
	MOVQ            src+24(FP), BX          \
	MOVQ            n+32(FP), CX            \
	VBROADCASTI32X4 ·reversal<>(SB), Z15    \
	MOVL            (R8), R9                \
	MOVQ            4(R8), R10              \
	BSWAPL          R9                      \
	BSWAPQ          R10                     \
	MOVQ            R10, R11                \
	SHLQ            $32, R9                 \
	SHLQ            $32, R10                \
	SHRQ            $32, R11                \
	ORQ             R11, R9                 \
	VMOVQ           R10, X14                \
	VPINSRQ         $1, R9, X14, X14        \
	VBROADCASTI32X4 ·polynomial<>(SB), Z16  \
	VSHUFI64X2      $0, Z14, Z14, Z14       \
	VPADDD          ·first<>(SB), Z14, Z14  \
	VBROADCASTI32X4 0(AX), Z17              \
	VBROADCASTI32X4 16(AX), Z18             \
	VBROADCASTI32X4 32(AX), Z19             \
	VBROADCASTI32X4 48(AX), Z20             \
	VBROADCASTI32X4 64(AX), Z21             \
	VBROADCASTI32X4 80(AX), Z22             \
	VBROADCASTI32X4 96(AX), Z23             \
	VBROADCASTI32X4 112(AX), Z24            \
	VBROADCASTI32X4 128(AX), Z25            \
	VBROADCASTI32X4 144(AX), Z26            \
	VBROADCASTI32X4 160(AX), Z27            \
	VBROADCASTI32X4 176(AX), Z28            \
	VBROADCASTI32X4 192(AX), Z29            \
	VBROADCASTI32X4 208(AX), Z30            \
	VBROADCASTI32X4 224(AX), Z31

// TAGMASK encrypts the counter block that is no data's (J0 of SP 800-38D §7.1) to X0. Z14 is yet that of the first data.
#define TAGMASK \
	VPADDD      ·minus1<>(SB), X14, X0 \
	VPSHUFB     X15, X0, X0            \
	VPXORD      X17, X0, X0            \
	VAESENC     X18, X0, X0            \
	VAESENC     X19, X0, X0            \
	VAESENC     X20, X0, X0            \
	VAESENC     X21, X0, X0            \
	VAESENC     X22, X0, X0            \
	VAESENC     X23, X0, X0            \
	VAESENC     X24, X0, X0            \
	VAESENC     X25, X0, X0            \
	VAESENC     X26, X0, X0            \
	VAESENC     X27, X0, X0            \
	VAESENC     X28, X0, X0            \
	VAESENC     X29, X0, X0            \
	VAESENC     X30, X0, X0            \
	VAESENCLAST X31, X0, X0

// FIRST is the key stream of 256 bytes but for the last round.
#define FIRST \
	COUNTERS   \
	ROUND(Z18) \
	ROUND(Z19) \
	ROUND(Z20) \
	ROUND(Z21) \
	ROUND(Z22) \
	ROUND(Z23) \
	ROUND(Z24) \
	ROUND(Z25) \
	ROUND(Z26) \
	ROUND(Z27) \
	ROUND(Z28) \
	ROUND(Z29) \
	ROUND(Z30)

// NEXT is FIRST while the blocks before are hashed. The four blocks of a register, and so the four parts of the hash, are multiplied with the same power:
// each part is a hash of every fourth block, and they are joined but once, at the end of the message (see PENDING).
#define NEXT \
	STRIDE(16)          \
	VPXORD Z10, Z4, Z4  \
	COUNTERS            \
	ROUND(Z18)          \
	MULTIPLY0(Z4)       \
	ROUND(Z19)          \
	STRIDE(12)          \
	ROUND(Z20)          \
	MULTIPLY(Z5)        \
	ROUND(Z21)          \
	STRIDE(8)           \
	ROUND(Z22)          \
	MULTIPLY(Z6)        \
	ROUND(Z23)          \
	STRIDE(4)           \
	ROUND(Z24)          \
	MULTIPLY(Z7)        \
	ROUND(Z25)          \
	ROUND(Z26)          \
	REDUCE              \
	ROUND(Z27)          \
	ROUND(Z28)          \
	ROUND(Z29)          \
	ROUND(Z30)

// POWERS lets SI point to the power of the first block of the tail: with m blocks of 16 bytes begun, and the block of lengths behind them, H^(m+1).
#define POWERS \
	LEAQ 15(CX), R9     \
	SHRQ $4, R9         \
	SHLQ $4, R9         \
	LEAQ 752(AX), SI    \
	SUBQ R9, SI

// LENGTHS begins the last sums with the block of lengths (SP 800-38D §7.1): no additional data, so its high half is nothing.
#define LENGTHS \
	MOVQ       n+32(FP), R9           \
	SHLQ       $3, R9                 \
	VMOVQ      R9, X11                \
	VMOVDQU    752(AX), X12           \
	VPCLMULQDQ $0x00, X12, X11, X8    \
	VPCLMULQDQ $0x10, X12, X11, X9

// PENDING adds the last whole 256 bytes to the last sums. Each block has a power of its own here, which joins the four parts of the hash.
#define PENDING \
	VPXORD    Z10, Z4, Z4    \
	VPXORD    Z10, Z10, Z10  \
	VMOVDQU64 -256(SI), Z12  \
	MULTIPLY(Z4)             \
	VMOVDQU64 -192(SI), Z12  \
	MULTIPLY(Z5)             \
	VMOVDQU64 -128(SI), Z12  \
	MULTIPLY(Z6)             \
	VMOVDQU64 -64(SI), Z12   \
	MULTIPLY(Z7)

// PIECE is the key stream of the next up to 64 bytes but for the last round, in Z0, and these bytes in Z1. K1 has a bit for each of them: what it has not
// is neither read nor written.
#define PIECE \
	MOVQ       $-1, R9               \
	BZHIQ      CX, R9, R9            \
	KMOVQ      R9, K1                \
	VPSHUFB    Z15, Z14, Z0          \
	VPADDD     ·plus4<>(SB), Z14, Z14 \
	VPXORD     Z17, Z0, Z0           \
	VMOVDQU8.Z (BX), K1, Z1          \
	VAESENC    Z18, Z0, Z0           \
	VAESENC    Z19, Z0, Z0           \
	VAESENC    Z20, Z0, Z0           \
	VAESENC    Z21, Z0, Z0           \
	VAESENC    Z22, Z0, Z0           \
	VAESENC    Z23, Z0, Z0           \
	VAESENC    Z24, Z0, Z0           \
	VAESENC    Z25, Z0, Z0           \
	VAESENC    Z26, Z0, Z0           \
	VAESENC    Z27, Z0, Z0           \
	VAESENC    Z28, Z0, Z0           \
	VAESENC    Z29, Z0, Z0           \
	VAESENC    Z30, Z0, Z0           \
	VPXORD     Z1, Z31, Z11          \
	VAESENCLAST Z11, Z0, Z0

// TAG joins the four parts of the hash and masks it.
#define TAG \
	REDUCE                           \
	VEXTRACTI64X4 $1, Z10, Y11       \
	VPXOR         Y11, Y10, Y10      \
	VEXTRACTI128  $1, Y10, X11       \
	VPXOR         X11, X10, X10      \
	VPSHUFB       X15, X10, X10      \
	VPXOR         mask-16(SP), X10, X10 \
	MOVQ          tag+40(FP), R8     \
	VMOVDQU       X10, (R8)          \
	VZEROUPPER

// SEALED ends 64 bytes at an offset: what is written is what will be hashed.
#define SEALED(at, z, hashed) \
	LAST(at, z)              \
	VMOVDQU64 z, at(DX)      \
	VPSHUFB   Z15, z, hashed

// OPENED ends 64 bytes at an offset: what was read is what will be hashed.
#define OPENED(at, z, hashed) \
	VMOVDQU64   at(BX), hashed      \
	VPXORD      hashed, Z31, Z11    \
	VAESENCLAST Z11, z, z           \
	VMOVDQU64   z, at(DX)           \
	VPSHUFB     Z15, hashed, hashed

#define ADVANCE(n) \
	ADDQ $n, BX \
	ADDQ $n, DX \
	SUBQ $n, CX

// func seal(s *schedule, nonce, dst, src *byte, n int, tag *byte)
TEXT ·seal(SB), NOSPLIT, $16-48
	SETUP
	TAGMASK
	VMOVDQU X0, mask-16(SP)
	CMPQ    CX, $256
	JB      short
	FIRST
	VPXORD  Z10, Z10, Z10

stored:
	SEALED(0, Z0, Z4)
	SEALED(64, Z1, Z5)
	SEALED(128, Z2, Z6)
	SEALED(192, Z3, Z7)
	ADVANCE(256)
	CMPQ CX, $256
	JB   last
	NEXT
	JMP  stored

last:
	POWERS
	LENGTHS
	PENDING
	TESTQ CX, CX
	JZ    done
	JMP   tail

short:
	POWERS
	LENGTHS
	VPXORD Z10, Z10, Z10
	TESTQ  CX, CX
	JZ     done

tail:
	PIECE
	VMOVDQU8   Z0, K1, (DX)
	VMOVDQU8.Z Z0, K1, Z0    // padded with zeros, not with key stream
	VPSHUFB    Z15, Z0, Z4
	VMOVDQU64  (SI), Z12
	MULTIPLY(Z4)
	ADDQ       $64, SI
	ADVANCE(64)
	JHI        tail

done:
	TAG
	RET

// func open(s *schedule, nonce, dst, src *byte, n int, tag *byte)
TEXT ·open(SB), NOSPLIT, $16-48
	SETUP
	TAGMASK
	VMOVDQU X0, mask-16(SP)
	CMPQ    CX, $256
	JB      short
	FIRST
	VPXORD  Z10, Z10, Z10

stored:
	OPENED(0, Z0, Z4)
	OPENED(64, Z1, Z5)
	OPENED(128, Z2, Z6)
	OPENED(192, Z3, Z7)
	ADVANCE(256)
	CMPQ CX, $256
	JB   last
	NEXT
	JMP  stored

last:
	POWERS
	LENGTHS
	PENDING
	TESTQ CX, CX
	JZ    done
	JMP   tail

short:
	POWERS
	LENGTHS
	VPXORD Z10, Z10, Z10
	TESTQ  CX, CX
	JZ     done

tail:
	PIECE
	VMOVDQU8  Z0, K1, (DX)
	VPSHUFB   Z15, Z1, Z4
	VMOVDQU64 (SI), Z12
	MULTIPLY(Z4)
	ADDQ      $64, SI
	ADVANCE(64)
	JHI       tail

done:
	TAG
	RET

DATA ·reversal<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA ·reversal<>+8(SB)/8, $0x0001020304050607
GLOBL ·reversal<>(SB), RODATA|NOPTR, $16

DATA ·polynomial<>+0(SB)/8, $0xc200000000000000
DATA ·polynomial<>+8(SB)/8, $0
GLOBL ·polynomial<>(SB), RODATA|NOPTR, $16

DATA ·minus1<>+0(SB)/8, $0xffffffff
DATA ·minus1<>+8(SB)/8, $0
GLOBL ·minus1<>(SB), RODATA|NOPTR, $16

DATA ·first<>+0(SB)/8, $2
DATA ·first<>+8(SB)/8, $0
DATA ·first<>+16(SB)/8, $3
DATA ·first<>+24(SB)/8, $0
DATA ·first<>+32(SB)/8, $4
DATA ·first<>+40(SB)/8, $0
DATA ·first<>+48(SB)/8, $5
DATA ·first<>+56(SB)/8, $0
GLOBL ·first<>(SB), RODATA|NOPTR, $64

#define SAME(name, n) \
	DATA name<>+0(SB)/8, $n  \
	DATA name<>+8(SB)/8, $0  \
	DATA name<>+16(SB)/8, $n \
	DATA name<>+24(SB)/8, $0 \
	DATA name<>+32(SB)/8, $n \
	DATA name<>+40(SB)/8, $0 \
	DATA name<>+48(SB)/8, $n \
	DATA name<>+56(SB)/8, $0 \
	GLOBL name<>(SB), RODATA|NOPTR, $64

SAME(·plus4, 4)
SAME(·plus8, 8)
SAME(·plus12, 12)
SAME(·plus16, 16)
