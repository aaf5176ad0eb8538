// Poly1305 (RFC 8439 §2.5) of eight blocks at once, one in each 64-bit lane. Numbers modulo 2^130-5 are kept in limbs of 44, 44 and 42 bits, so that
// VPMADD52 multiplies them without overflow. Each lane is a polynomial in r^8 of every eighth block; at the end lane after lane is multiplied with the power
// of r that its block wants, and they are added. Blocks are counted from the end, that is: zeros that are no blocks come before the first one.
//
//	R11  key of Poly1305     R12  message     R13  its length     R8  where the tag goes
//
//	Z0, Z1    128 bytes of message       Z2 … Z4    their limbs            Z5 … Z7  the hash so far
//	Z8 … Z10  sums of low parts          Z11 … Z13  sums of high parts     Z14, Z15 scratch
//	Z16 … Z20 r^8, and its upper two limbs times 20     Z26 … Z30 the same of r^16
//	Z21 … Z25 the same of r^8 … r, the last for the last block             Z31 mask of 44 bits
//	K3  lanes that are blocks

// PRODUCT adds h times r to the sums. s1 and s2 are 20 times r1 and r2: a product with the weight of 2^132 is 4·5 times one with the weight of 1.
#define PRODUCT(h0, h1, h2, r0, r1, r2, s1, s2) \
	VPMADD52HUQ h0, r2, Z13   \
	VPMADD52HUQ h0, r0, Z11   \
	VPMADD52HUQ h0, r1, Z12   \
	VPMADD52LUQ h0, r0, Z8    \
	VPMADD52LUQ h0, r1, Z9    \
	VPMADD52LUQ h0, r2, Z10   \
	VPMADD52HUQ h1, r1, Z13   \
	VPMADD52HUQ h1, s2, Z11   \
	VPMADD52HUQ h1, r0, Z12   \
	VPMADD52LUQ h1, s2, Z8    \
	VPMADD52LUQ h1, r0, Z9    \
	VPMADD52LUQ h1, r1, Z10   \
	VPMADD52HUQ h2, r0, Z13   \
	VPMADD52HUQ h2, s1, Z11   \
	VPMADD52HUQ h2, s2, Z12   \
	VPMADD52LUQ h2, s1, Z8    \
	VPMADD52LUQ h2, s2, Z9    \
	VPMADD52LUQ h2, r0, Z10

// NOTHING clears the sums.
#define NOTHING \
	VPXORD Z8, Z8, Z8    \
	VPXORD Z9, Z9, Z9    \
	VPXORD Z10, Z10, Z10 \
	VPXORD Z11, Z11, Z11 \
	VPXORD Z12, Z12, Z12 \
	VPXORD Z13, Z13, Z13

// CARRY makes limbs of the sums. VPMADD52LUQ has added bits 0 … 51 of products, VPMADD52HUQ those above; as limbs have 44 bits, the latter are worth 2^8
// in the next limb, or 2^10 times 5 in the first, the topmost having 42 bits. What is above a limb is then carried once, to the next: no limb is longer
// than 45 bits, which is short enough to go on, and is still when a block is added.
#define CARRY \
	VPSLLQ      $10, Z13, Z14 \
	VPSLLQ      $12, Z13, Z15 \
	VPSLLQ      $8, Z11, Z11  \
	VPSLLQ      $8, Z12, Z12  \
	VPADDQ      Z14, Z15, Z15 \
	VPADDQ      Z11, Z9, Z9   \
	VPADDQ      Z12, Z10, Z10 \
	VPADDQ      Z15, Z8, Z8   \
	VPSRLQ      $42, Z10, Z13 \
	VPSRLQ      $44, Z8, Z11  \
	VPSRLQ      $44, Z9, Z12  \
	VPANDQ      Z31, Z8, Z5   \
	VPANDQ      Z31, Z9, Z6   \
	VPANDQ.BCST ·low42<>(SB), Z10, Z7  \
	VPSLLQ      $2, Z13, Z14  \
	VPADDQ      Z13, Z5, Z5   \
	VPADDQ      Z11, Z6, Z6   \
	VPADDQ      Z12, Z7, Z7   \
	VPADDQ      Z14, Z5, Z5

// MULTIPLY makes h times r in Z5 … Z7.
#define MULTIPLY(h0, h1, h2, r0, r1, r2, s1, s2) \
	NOTHING                                 \
	PRODUCT(h0, h1, h2, r0, r1, r2, s1, s2) \
	CARRY

// TWENTY makes s of r.
#define TWENTY(r, s) \
	VPSLLQ $2, r, Z14  \
	VPSLLQ $4, r, s    \
	VPADDQ Z14, s, s

// POWER keeps the hash as the multiplicand r.
#define POWER(r0, r1, r2, s1, s2) \
	VMOVDQA64 Z5, r0 \
	VMOVDQA64 Z6, r1 \
	VMOVDQA64 Z7, r2 \
	TWENTY(Z6, s1)   \
	TWENTY(Z7, s2)

// CHOOSE takes the hash for the last powers in the lanes of a mask.
#define CHOOSE(lanes) \
	MOVL      lanes, CX    \
	KMOVB     CX, K3       \
	VMOVDQA64 Z5, K3, Z21  \
	VMOVDQA64 Z6, K3, Z22  \
	VMOVDQA64 Z7, K3, Z23

// SPLIT makes limbs of 128 bytes, with 2^128 for each block. Unpacking puts blocks in the order of ·order. The ternary operation is (Z4 | Z15) & Z31.
#define SPLIT(x, y) \
	VPUNPCKLQDQ y, x, Z2            \
	VPUNPCKHQDQ y, x, Z3            \
	VPSRLQ      $44, Z2, Z4         \
	VPSLLQ      $20, Z3, Z15        \
	VPSRLQ      $24, Z3, Z3         \
	VPANDQ      Z31, Z2, Z2         \
	VPTERNLOGQ  $0xa8, Z31, Z15, Z4 \
	VPORQ.BCST  ·bit40<>(SB), Z3, K3, Z3

// ABSORB adds them to the hash.
#define ABSORB \
	VPADDQ Z2, Z5, Z5  \
	VPADDQ Z4, Z6, Z6  \
	VPADDQ Z3, Z7, Z7

// SUM adds the lanes of z into r.
#define SUM(z, y, x, r) \
	VEXTRACTI64X4 $1, z, Y14    \
	VPADDQ        Y14, y, y     \
	VEXTRACTI64X2 $1, y, X14    \
	VPADDQ        X14, x, x     \
	VPSHUFD       $0x4e, x, X14 \
	VPADDQ        X14, x, x     \
	VMOVQ         x, r

// LENGTHS puts the block of lengths (§2.8), of which that of additional data is zero, behind 112 bytes.
#define LENGTHS(z) \
	MOVL         $0x80, CX  \
	KMOVB        CX, K4     \
	VPBROADCASTQ R13, K4, z
