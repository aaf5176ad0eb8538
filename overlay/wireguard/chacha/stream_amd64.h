// The key stream (RFC 8439 §2.3): each register holds the same word of eight or sixteen blocks, so that the rounds need no shuffling. At the end they are
// written to memory block after block.
//
//	AX  key     R8  nonce     R9  where to write, at a multiple of 64     R10  counter of the first block, advanced     R11  rounds left

// QUARTERS is four quarter rounds at once: none waits for the other.
#define QUARTERS(a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3) \
	STEP(a0, a1, a2, a3, b0, b1, b2, b3, d0, d1, d2, d3, $16) \
	STEP(c0, c1, c2, c3, d0, d1, d2, d3, b0, b1, b2, b3, $12) \
	STEP(a0, a1, a2, a3, b0, b1, b2, b3, d0, d1, d2, d3, $8)  \
	STEP(c0, c1, c2, c3, d0, d1, d2, d3, b0, b1, b2, b3, $7)

// STEP is an addition, an exclusive or and a rotation of each of the four. There are fewer pipes for rotations than for the others: taken by twos, one
// two's rotations run beside the other's additions.
#define STEP(x0, x1, x2, x3, y0, y1, y2, y3, z0, z1, z2, z3, by) \
	VPADDD y0, x0, x0 \
	VPADDD y1, x1, x1 \
	VPXORD x0, z0, z0 \
	VPXORD x1, z1, z1 \
	VPROLD by, z0, z0 \
	VPROLD by, z1, z1 \
	VPADDD y2, x2, x2 \
	VPADDD y3, x3, x3 \
	VPXORD x2, z2, z2 \
	VPXORD x3, z3, z3 \
	VPROLD by, z2, z2 \
	VPROLD by, z3, z3

// DOUBLE is a round of columns and one of diagonals.
#define DOUBLE(w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15) \
	QUARTERS(w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15) \
	QUARTERS(w0, w1, w2, w3, w5, w6, w7, w4, w10, w11, w8, w9, w15, w12, w13, w14)

// START makes the state before the rounds.
#define START(w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15) \
	VPBROADCASTD ·sigma<>+0(SB), w0   \
	VPBROADCASTD ·sigma<>+4(SB), w1   \
	VPBROADCASTD ·sigma<>+8(SB), w2   \
	VPBROADCASTD ·sigma<>+12(SB), w3  \
	VPBROADCASTD 0(AX), w4            \
	VPBROADCASTD 4(AX), w5            \
	VPBROADCASTD 8(AX), w6            \
	VPBROADCASTD 12(AX), w7           \
	VPBROADCASTD 16(AX), w8           \
	VPBROADCASTD 20(AX), w9           \
	VPBROADCASTD 24(AX), w10          \
	VPBROADCASTD 28(AX), w11          \
	COUNT(w12)                        \
	VPBROADCASTD 0(R8), w13           \
	VPBROADCASTD 4(R8), w14           \
	VPBROADCASTD 8(R8), w15

// COUNT makes the counters of blocks from R10 on.
#define COUNT(z) \
	VPBROADCASTD R10, z       \
	VPADDD       ·ramp<>(SB), z, z

// ADDSTART adds what the rounds began with.
#define ADDSTART(w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15, counters) \
	VPADDD.BCST ·sigma<>+0(SB), w0, w0   \
	VPADDD.BCST ·sigma<>+4(SB), w1, w1   \
	VPADDD.BCST ·sigma<>+8(SB), w2, w2   \
	VPADDD.BCST ·sigma<>+12(SB), w3, w3  \
	VPADDD.BCST 0(AX), w4, w4            \
	VPADDD.BCST 4(AX), w5, w5            \
	VPADDD.BCST 8(AX), w6, w6            \
	VPADDD.BCST 12(AX), w7, w7           \
	VPADDD.BCST 16(AX), w8, w8           \
	VPADDD.BCST 20(AX), w9, w9           \
	VPADDD.BCST 24(AX), w10, w10         \
	VPADDD.BCST 28(AX), w11, w11         \
	COUNT(counters)                      \
	VPADDD      counters, w12, w12       \
	VPADDD.BCST 0(R8), w13, w13          \
	VPADDD.BCST 4(R8), w14, w14          \
	VPADDD.BCST 8(R8), w15, w15

// GATHER puts four words of a block side by side: from words a … d of blocks 0, 1, 2 … to all four of blocks 0, 4 … in a, of 1, 5 … in b, of 2, 6 … in c and
// of 3, 7 … in d.
#define GATHER(a, b, c, d, t0, t1, t2, t3) \
	VPUNPCKLDQ  b, a, t0  \
	VPUNPCKHDQ  b, a, t1  \
	VPUNPCKLDQ  d, c, t2  \
	VPUNPCKHDQ  d, c, t3  \
	VPUNPCKLQDQ t2, t0, a \
	VPUNPCKHQDQ t2, t0, b \
	VPUNPCKLQDQ t3, t1, c \
	VPUNPCKHQDQ t3, t1, d

// JOIN16 writes blocks i, i+4, i+8 and i+12 of sixteen, of whose quarters there are four in each register.
#define JOIN16(i, a, b, c, d) \
	VSHUFI32X4 $0x44, b, a, Z16     \
	VSHUFI32X4 $0xee, b, a, Z17     \
	VSHUFI32X4 $0x44, d, c, Z18     \
	VSHUFI32X4 $0xee, d, c, Z19     \
	VSHUFI32X4 $0x88, Z18, Z16, Z20 \
	VSHUFI32X4 $0xdd, Z18, Z16, Z21 \
	VSHUFI32X4 $0x88, Z19, Z17, Z22 \
	VSHUFI32X4 $0xdd, Z19, Z17, Z23 \
	VMOVDQA64  Z20, (64*(i))(R9)     \
	VMOVDQA64  Z21, (64*(i)+256)(R9)  \
	VMOVDQA64  Z22, (64*(i)+512)(R9)  \
	VMOVDQA64  Z23, (64*(i)+768)(R9)

// JOIN8 writes blocks i and i+4 of eight, of whose quarters there are two in each register.
#define JOIN8(i, a, b, c, d) \
	VINSERTI64X4 $1, b, a, Z16        \
	VINSERTI64X4 $1, d, c, Z17        \
	VSHUFI32X4   $0x88, Z17, Z16, Z18 \
	VSHUFI32X4   $0xdd, Z17, Z16, Z19 \
	VMOVDQA64    Z18, (64*(i))(R9)     \
	VMOVDQA64    Z19, (64*(i)+256)(R9)

// WRITE16 ends and writes the sixteen blocks of Z0 … Z15. It uses all registers, as WRITE8 does.
#define WRITE16 \
	ADDSTART(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z24) \
	GATHER(Z0, Z1, Z2, Z3, Z16, Z17, Z18, Z19)     \
	GATHER(Z4, Z5, Z6, Z7, Z20, Z21, Z22, Z23)     \
	GATHER(Z8, Z9, Z10, Z11, Z16, Z17, Z18, Z19)   \
	GATHER(Z12, Z13, Z14, Z15, Z20, Z21, Z22, Z23) \
	JOIN16(0, Z0, Z4, Z8, Z12)                     \
	JOIN16(1, Z1, Z5, Z9, Z13)                     \
	JOIN16(2, Z2, Z6, Z10, Z14)                    \
	JOIN16(3, Z3, Z7, Z11, Z15)                    \
	ADDL $16, R10

// WRITE8 does so with the eight of Y0 … Y15, as blocks at, at+1, ….
#define WRITE8(at) \
	ADDSTART(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15, Y24) \
	GATHER(Y0, Y1, Y2, Y3, Y16, Y17, Y18, Y19)     \
	GATHER(Y4, Y5, Y6, Y7, Y20, Y21, Y22, Y23)     \
	GATHER(Y8, Y9, Y10, Y11, Y16, Y17, Y18, Y19)   \
	GATHER(Y12, Y13, Y14, Y15, Y20, Y21, Y22, Y23) \
	JOIN8(at, Z0, Y4, Z8, Y12)                     \
	JOIN8(at+1, Z1, Y5, Z9, Y13)                   \
	JOIN8(at+2, Z2, Y6, Z10, Y14)                  \
	JOIN8(at+3, Z3, Y7, Z11, Y15)                  \
	ADDL $8, R10
