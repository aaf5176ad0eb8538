//go:build !purego

#include "textflag.h"
#include "funcdata.h"
#include "stream_amd64.h"
#include "hash_amd64.h"

// blocks8, blocks16 and blocks24 write so many blocks of key stream; what is in which register is told in stream_amd64.h. They use all others but BX, CX, DX,
// DI and SI.
TEXT blocks8<>(SB), NOSPLIT, $0-0
	START(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15)
	MOVL $10, R11

rounds:
	DOUBLE(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15)
	DECL R11
	JNZ  rounds
	WRITE8(0)
	RET

TEXT blocks16<>(SB), NOSPLIT, $0-0
	START(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	MOVL $10, R11

rounds:
	DOUBLE(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	DECL R11
	JNZ  rounds
	WRITE16
	RET

// Each step waits for the one before, so that eight blocks alone take two thirds of the time of sixteen. Side by side they keep all pipes busy: 24 blocks
// take 1.4 times the time of sixteen, and are as many as a packet of an Ethernet path wants.
TEXT blocks24<>(SB), NOSPLIT, $0-0
	START(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	ADDL $16, R10
	START(Y16, Y17, Y18, Y19, Y20, Y21, Y22, Y23, Y24, Y25, Y26, Y27, Y28, Y29, Y30, Y31)
	SUBL $16, R10
	MOVL $10, R11

rounds:
	STEP(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z12, Z13, Z14, Z15, $16)
	STEP(Y16, Y17, Y18, Y19, Y20, Y21, Y22, Y23, Y28, Y29, Y30, Y31, $16)
	STEP(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z4, Z5, Z6, Z7, $12)
	STEP(Y24, Y25, Y26, Y27, Y28, Y29, Y30, Y31, Y20, Y21, Y22, Y23, $12)
	STEP(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z12, Z13, Z14, Z15, $8)
	STEP(Y16, Y17, Y18, Y19, Y20, Y21, Y22, Y23, Y28, Y29, Y30, Y31, $8)
	STEP(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z4, Z5, Z6, Z7, $7)
	STEP(Y24, Y25, Y26, Y27, Y28, Y29, Y30, Y31, Y20, Y21, Y22, Y23, $7)
	STEP(Z0, Z1, Z2, Z3, Z5, Z6, Z7, Z4, Z15, Z12, Z13, Z14, $16)
	STEP(Y16, Y17, Y18, Y19, Y21, Y22, Y23, Y20, Y31, Y28, Y29, Y30, $16)
	STEP(Z10, Z11, Z8, Z9, Z15, Z12, Z13, Z14, Z5, Z6, Z7, Z4, $12)
	STEP(Y26, Y27, Y24, Y25, Y31, Y28, Y29, Y30, Y21, Y22, Y23, Y20, $12)
	STEP(Z0, Z1, Z2, Z3, Z5, Z6, Z7, Z4, Z15, Z12, Z13, Z14, $8)
	STEP(Y16, Y17, Y18, Y19, Y21, Y22, Y23, Y20, Y31, Y28, Y29, Y30, $8)
	STEP(Z10, Z11, Z8, Z9, Z15, Z12, Z13, Z14, Z5, Z6, Z7, Z4, $7)
	STEP(Y26, Y27, Y24, Y25, Y31, Y28, Y29, Y30, Y21, Y22, Y23, Y20, $7)
	DECL R11
	JNZ  rounds

	// Joining wants registers: the eight wait where they will be written.
	VMOVDQA64 Y16, 1024(R9)
	VMOVDQA64 Y17, 1056(R9)
	VMOVDQA64 Y18, 1088(R9)
	VMOVDQA64 Y19, 1120(R9)
	VMOVDQA64 Y20, 1152(R9)
	VMOVDQA64 Y21, 1184(R9)
	VMOVDQA64 Y22, 1216(R9)
	VMOVDQA64 Y23, 1248(R9)
	VMOVDQA64 Y24, 1280(R9)
	VMOVDQA64 Y25, 1312(R9)
	VMOVDQA64 Y26, 1344(R9)
	VMOVDQA64 Y27, 1376(R9)
	VMOVDQA64 Y28, 1408(R9)
	VMOVDQA64 Y29, 1440(R9)
	VMOVDQA64 Y30, 1472(R9)
	VMOVDQA64 Y31, 1504(R9)
	WRITE16
	VMOVDQA64 1024(R9), Y0
	VMOVDQA64 1056(R9), Y1
	VMOVDQA64 1088(R9), Y2
	VMOVDQA64 1120(R9), Y3
	VMOVDQA64 1152(R9), Y4
	VMOVDQA64 1184(R9), Y5
	VMOVDQA64 1216(R9), Y6
	VMOVDQA64 1248(R9), Y7
	VMOVDQA64 1280(R9), Y8
	VMOVDQA64 1312(R9), Y9
	VMOVDQA64 1344(R9), Y10
	VMOVDQA64 1376(R9), Y11
	VMOVDQA64 1408(R9), Y12
	VMOVDQA64 1440(R9), Y13
	VMOVDQA64 1472(R9), Y14
	VMOVDQA64 1504(R9), Y15
	WRITE8(16)
	RET

// blocks writes key stream for the next CX bytes, or as many of them as there is room for. SI is how many bytes it has written.
TEXT blocks<>(SB), NOSPLIT, $0-0
	CMPQ CX, $1024
	JA   by24
	CMPQ CX, $512
	JA   by16
	MOVQ $512, SI
	JMP  blocks8<>(SB)

by16:
	MOVQ $1024, SI
	JMP  blocks16<>(SB)

by24:
	MOVQ $1536, SI
	JMP  blocks24<>(SB)

// add adds key stream to the message: SI bytes of it at DI, to CX bytes at BX, which go to DX; all advance.
TEXT add<>(SB), NOSPLIT, $0-0
again:
	CMPQ      CX, $64
	JB        partial
	VMOVDQU64 (DI), Z0
	VPXORD    (BX), Z0, Z0
	VMOVDQU64 Z0, (DX)
	ADDQ      $64, BX
	ADDQ      $64, DX
	ADDQ      $64, DI
	SUBQ      $64, CX
	SUBQ      $64, SI
	JNZ       again
	RET

partial:
	TESTQ      CX, CX
	JZ         added
	MOVQ       $-1, R11
	BZHIQ      CX, R11, R11
	KMOVQ      R11, K1
	VMOVDQU8.Z (BX), K1, Z0     // what has no bit in K1 is neither read nor written
	VPXORD     (DI), Z0, Z0
	VMOVDQU8   Z0, K1, (DX)
	XORL       CX, CX

added:
	RET

TEXT hash<>(SB), NOSPLIT, $0-0
	MOVQ         $0xfffffffffff, R10
	VPBROADCASTQ R10, Z31

	// r in limbs, clamped
	MOVQ         (R11), AX
	MOVQ         8(R11), BX
	MOVQ         $0x0ffffffc0fffffff, CX
	ANDQ         CX, AX
	MOVQ         $0x0ffffffc0ffffffc, CX
	ANDQ         CX, BX
	MOVQ         AX, CX
	ANDQ         R10, CX
	VPBROADCASTQ CX, Z16
	SHRQ         $44, BX, AX             // bits 44 … of both
	ANDQ         R10, AX
	VPBROADCASTQ AX, Z17
	SHRQ         $24, BX
	VPBROADCASTQ BX, Z18
	TWENTY(Z17, Z19)
	TWENTY(Z18, Z20)

	// blocks, with that of lengths, in eights: DX; zeros before them: BX
	LEAQ 31(R13), DX
	SHRQ $4, DX
	MOVQ DX, BX
	NEGQ BX
	ANDQ $7, BX
	ADDQ BX, DX
	SHRQ $3, DX

	// powers of r, last first: a lane's exponent less one is a binary number of which each step has a digit
	VMOVDQA64 Z16, Z21
	VMOVDQA64 Z17, Z22
	VMOVDQA64 Z18, Z23
	MULTIPLY(Z16, Z17, Z18, Z16, Z17, Z18, Z19, Z20)
	CHOOSE($0x33)
	POWER(Z16, Z17, Z18, Z19, Z20)
	MULTIPLY(Z21, Z22, Z23, Z16, Z17, Z18, Z19, Z20)
	CHOOSE($0x0f)
	MULTIPLY(Z16, Z17, Z18, Z16, Z17, Z18, Z19, Z20)
	POWER(Z16, Z17, Z18, Z19, Z20)
	MULTIPLY(Z21, Z22, Z23, Z16, Z17, Z18, Z19, Z20)
	CHOOSE($0x55)
	TWENTY(Z22, Z24)
	TWENTY(Z23, Z25)
	CMPQ DX, $1
	JE   powered
	MULTIPLY(Z16, Z17, Z18, Z16, Z17, Z18, Z19, Z20)
	POWER(Z16, Z17, Z18, Z19, Z20)
	CMPQ DX, $4
	JB   powered
	MULTIPLY(Z16, Z17, Z18, Z16, Z17, Z18, Z19, Z20)
	POWER(Z26, Z27, Z28, Z29, Z30)

powered:
	// The first eight blocks: what there is of them is loaded from the message's start, and moved behind as many zeros as there are blocks missing. (A load from
	// before the message would be right, with a mask, but very slow where there is no memory.)
	VPXORD       Z0, Z0, Z0
	VPXORD       Z1, Z1, Z1
	MOVQ         $8, CX
	SUBQ         BX, CX
	SHLQ         $4, CX
	MOVQ         R12, SI
	ADDQ         CX, R12                 // behind these
	CMPQ         R13, CX
	CMOVQCS      R13, CX
	TESTQ        CX, CX
	JZ           loaded
	MOVQ         $-1, DI
	BZHIQ        CX, DI, AX
	KMOVQ        AX, K1
	VMOVDQU8.Z   (SI), K1, Z0
	SUBQ         $64, CX
	JLS          loaded
	BZHIQ        CX, DI, AX
	KMOVQ        AX, K1
	VMOVDQU8.Z   64(SI), K1, Z1

loaded:
	VPBROADCASTQ BX, Z2
	VPCMPUQ      $2, ·order<>(SB), Z2, K3 // Z2 <= order
	VPADDQ       Z2, Z2, Z2               // in words
	VMOVDQU64    ·words<>(SB), Z3
	VMOVDQU64    ·words<>+64(SB), Z4
	VPCMPUQ      $2, Z3, Z2, K1
	VPCMPUQ      $2, Z4, Z2, K2
	VPSUBQ       Z2, Z3, Z3
	VPSUBQ       Z2, Z4, Z4
	VPERMI2Q.Z   Z1, Z0, K1, Z3
	VPERMI2Q.Z   Z1, Z0, K2, Z4
	VMOVDQA64    Z3, Z0
	VMOVDQA64    Z4, Z1
	VPXORD       Z5, Z5, Z5
	VPXORD       Z6, Z6, Z6
	VPXORD       Z7, Z7, Z7
	DECQ         DX
	JNZ          several
	LENGTHS(Z1)
	SPLIT(Z0, Z1)
	ABSORB
	JMP          last

several:
	SPLIT(Z0, Z1)
	ABSORB
	KXNORB K3, K3, K3
	SUBQ   $3, DX
	JB     single

	// Sixteen blocks: but for the last eight there are as many more. The product of the first eight of them waits for nothing.
pair:
	VMOVDQU64 (R12), Z0
	VMOVDQU64 64(R12), Z1
	SPLIT(Z0, Z1)
	NOTHING
	PRODUCT(Z2, Z4, Z3, Z16, Z17, Z18, Z19, Z20)
	PRODUCT(Z5, Z6, Z7, Z26, Z27, Z28, Z29, Z30)
	VMOVDQU64 128(R12), Z0
	VMOVDQU64 192(R12), Z1
	CARRY
	SPLIT(Z0, Z1)
	ABSORB
	ADDQ $256, R12
	SUBQ $2, DX
	JAE  pair

single:
	CMPQ DX, $-2                          // none is left before the last eight, or one
	JE   final
	MULTIPLY(Z5, Z6, Z7, Z16, Z17, Z18, Z19, Z20)
	VMOVDQU64 (R12), Z0
	VMOVDQU64 64(R12), Z1
	SPLIT(Z0, Z1)
	ABSORB
	SUBQ $-128, R12

final:
	MULTIPLY(Z5, Z6, Z7, Z16, Z17, Z18, Z19, Z20)
	MOVQ       R13, AX
	NEGQ       AX
	ANDQ       $15, AX
	MOVQ       $0xffffffffffff, CX        // 112 bytes, or up to 15 fewer
	SHRXQ      AX, CX, CX
	KMOVQ      CX, K1
	VMOVDQU64  (R12), Z0
	VMOVDQU8.Z 64(R12), K1, Z1
	LENGTHS(Z1)
	SPLIT(Z0, Z1)
	ABSORB

last:
	MULTIPLY(Z5, Z6, Z7, Z21, Z22, Z23, Z24, Z25)
	SUM(Z5, Y5, X5, AX)
	SUM(Z6, Y6, X6, BX)
	SUM(Z7, Y7, X7, CX)

	// carry, twice, for the sum of eight may be 2^132
	MOVQ $0x3ffffffffff, R12
	MOVQ AX, DX
	SHRQ $44, DX
	ANDQ R10, AX
	ADDQ DX, BX
	MOVQ BX, DX
	SHRQ $44, DX
	ANDQ R10, BX
	ADDQ DX, CX
	MOVQ CX, DX
	SHRQ $42, DX
	ANDQ R12, CX
	LEAQ (DX)(DX*4), DX
	ADDQ DX, AX
	MOVQ AX, DX
	SHRQ $44, DX
	ANDQ R10, AX
	ADDQ DX, BX
	MOVQ BX, DX
	SHRQ $44, DX
	ANDQ R10, BX
	ADDQ DX, CX

	// three words
	MOVQ BX, DX
	SHLQ $44, DX
	ORQ  DX, AX
	SHRQ $20, BX
	MOVQ CX, DX
	SHLQ $24, DX
	ORQ  DX, BX
	SHRQ $40, CX

	// less 2^130-5, unless that is too much
	MOVQ    AX, SI
	MOVQ    BX, DX
	ADDQ    $5, SI
	ADCQ    $0, DX
	ADCQ    $0, CX
	SHRQ    $2, CX
	CMOVQNE SI, AX
	CMOVQNE DX, BX

	// s
	ADDQ 16(R11), AX
	ADCQ 24(R11), BX
	MOVQ AX, (R8)
	MOVQ BX, 8(R8)
	RET

DATA ·order<>+0(SB)/8, $0
DATA ·order<>+8(SB)/8, $4
DATA ·order<>+16(SB)/8, $1
DATA ·order<>+24(SB)/8, $5
DATA ·order<>+32(SB)/8, $2
DATA ·order<>+40(SB)/8, $6
DATA ·order<>+48(SB)/8, $3
DATA ·order<>+56(SB)/8, $7
GLOBL ·order<>(SB), RODATA|NOPTR, $64

// BEGIN loads the arguments and makes the first key stream, whose block 0 is the key of Poly1305 (§2.6); R9 is where it is, at a multiple of 64.
#define BEGIN \
	LEAQ stream-1632(SP), R9 \
	ADDQ $63, R9             \
	ANDQ $~63, R9            \
	MOVQ key+0(FP), AX       \
	MOVQ nonce+8(FP), R8     \
	MOVQ dst+16(FP), DX      \
	MOVQ src+24(FP), BX      \
	MOVQ n+32(FP), CX        \
	XORL R10, R10            \
	ADDQ $64, CX             \
	CALL blocks<>(SB)        \
	SUBQ $64, CX             \
	SUBQ $64, SI             \
	LEAQ 64(R9), DI

// func seal(key *[32]byte, nonce, dst, src *byte, n int, tag *byte)
TEXT ·seal(SB), 0, $1632-48
	NO_LOCAL_POINTERS
	BEGIN
	VMOVDQU (R9), Y0
	VMOVDQU Y0, once-32(SP)

more:
	CALL  add<>(SB)
	TESTQ CX, CX
	JZ    hashed
	CALL  blocks<>(SB)
	MOVQ  R9, DI
	JMP   more

hashed:
	LEAQ once-32(SP), R11
	MOVQ dst+16(FP), R12
	MOVQ n+32(FP), R13
	MOVQ tag+40(FP), R8
	CALL hash<>(SB)
	VZEROUPPER
	RET

// func open(key *[32]byte, nonce, dst, src *byte, n int, tag *byte)
TEXT ·open(SB), 0, $1632-48
	NO_LOCAL_POINTERS
	BEGIN

	// The whole message is hashed before any of it is overwritten.
	MOVQ R10, counter-8(SP)
	MOVQ SI, bytes-16(SP)
	MOVQ R9, R11
	MOVQ BX, R12
	MOVQ CX, R13
	MOVQ tag+40(FP), R8
	CALL hash<>(SB)
	MOVQ counter-8(SP), R10
	MOVQ bytes-16(SP), SI
	MOVQ key+0(FP), AX
	MOVQ nonce+8(FP), R8
	MOVQ dst+16(FP), DX
	MOVQ src+24(FP), BX
	MOVQ n+32(FP), CX
	LEAQ 64(R9), DI

more:
	CALL  add<>(SB)
	TESTQ CX, CX
	JZ    done
	CALL  blocks<>(SB)
	MOVQ  R9, DI
	JMP   more

done:
	VZEROUPPER
	RET

// func authenticate(once *[32]byte, message *byte, n int, tag *byte)
TEXT ·authenticate(SB), NOSPLIT, $0-32
	MOVQ once+0(FP), R11
	MOVQ message+8(FP), R12
	MOVQ n+16(FP), R13
	MOVQ tag+24(FP), R8
	CALL hash<>(SB)
	VZEROUPPER
	RET

DATA ·sigma<>+0(SB)/8, $0x3320646e61707865
DATA ·sigma<>+8(SB)/8, $0x6b20657479622d32
GLOBL ·sigma<>(SB), RODATA|NOPTR, $16

DATA ·ramp<>+0(SB)/8, $0x0000000100000000
DATA ·ramp<>+8(SB)/8, $0x0000000300000002
DATA ·ramp<>+16(SB)/8, $0x0000000500000004
DATA ·ramp<>+24(SB)/8, $0x0000000700000006
DATA ·ramp<>+32(SB)/8, $0x0000000900000008
DATA ·ramp<>+40(SB)/8, $0x0000000b0000000a
DATA ·ramp<>+48(SB)/8, $0x0000000d0000000c
DATA ·ramp<>+56(SB)/8, $0x0000000f0000000e
GLOBL ·ramp<>(SB), RODATA|NOPTR, $64

DATA ·words<>+0(SB)/8, $0
DATA ·words<>+8(SB)/8, $1
DATA ·words<>+16(SB)/8, $2
DATA ·words<>+24(SB)/8, $3
DATA ·words<>+32(SB)/8, $4
DATA ·words<>+40(SB)/8, $5
DATA ·words<>+48(SB)/8, $6
DATA ·words<>+56(SB)/8, $7
DATA ·words<>+64(SB)/8, $8
DATA ·words<>+72(SB)/8, $9
DATA ·words<>+80(SB)/8, $10
DATA ·words<>+88(SB)/8, $11
DATA ·words<>+96(SB)/8, $12
DATA ·words<>+104(SB)/8, $13
DATA ·words<>+112(SB)/8, $14
DATA ·words<>+120(SB)/8, $15
GLOBL ·words<>(SB), RODATA|NOPTR, $128

DATA ·low42<>+0(SB)/8, $0x3ffffffffff
GLOBL ·low42<>(SB), RODATA|NOPTR, $8

DATA ·bit40<>+0(SB)/8, $0x10000000000
GLOBL ·bit40<>(SB), RODATA|NOPTR, $8
