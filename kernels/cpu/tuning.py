"""The tuned numbers of the CPU's kernels: what each trades, and where it was measured.

How they were found, and what else was tried, is in asv_benchmarks/TUNING.md. "Xeon" is an Intel Xeon with AVX-512 and
2 MiB of L2, "Zen 4" an AMD Zen 4, "rows x depth x columns" a float32 product on one core. Where nothing is said, a
number is a count. Code reads them from here when a kernel is compiled or a function called.
"""

# --- Products: kernels/cpu/product. Blocks have the literature's names (BLIS): MR x NR in registers, see simd.py

# Steps along k in one round of the micro-kernel's loop over rows of a in place. More share the integer instructions of
# MR addresses, fewer compile faster. 4: 95 % of the FMA peak, 1 or 2: 90 %, 12 x 2 vectors, b in L1, Xeon.
UNROLL = 4
# Depth of a block of b, and bytes of its rows. Larger ones visit c less often, smaller ones stay in L2: 800 KiB of 1 or
# 2 MiB, and a strip of a, 19 KiB, in L1. KC 512: equal, 256: 2 % slower, half the bytes: 4 % slower, 1024 cubed, Xeon.
KC, NC_BYTES = 400, 2048
# Strips of MR rows of a that are packed at once. More amortise the packing, fewer stay in L2.
MC_STRIPS = 8
# Rows up to which b is taken by single panels, in L1, while a and c stay in L2, and their depth: 32 KiB a panel. More
# rows are better by blocks. 192 x 784 x 256: 89 % of the FMA peak, by blocks 83; 1000 cubed: 77, by blocks 86, Xeon.
FEW_ROWS, KC_FEW_ROWS = 384, 256
# Depth of a panel on the stack, 8 KiB, of which a thread may have 32 KiB in all. Deeper panels are allocated.
KC_ON_STACK = 64
# Rows from which b is packed, and where it is in L1 anyway. Fewer rows use a packed panel too seldom to pay for it.
# 64 x 1000 x 1000: 69 % of the FMA peak packed, 62 % in place; 64 cubed: 82 % and 87 %, Xeon.
PACK_ROWS, PACK_ROWS_IN_L1 = 48, 96
# Bytes of b up to which it counts as in L1.
L1_BYTES = 32 * 1024
# Bytes of b from which it counts as beyond L2, and the rows of it that few rows of a read at once, as the hardware
# prefetches. 1, 4 and 6 x 2048 x 2048: 0.79, 0.85 and 0.79 of the time, Xeon; 8 and 32 are alike.
STREAMED_BYTES, KC_STREAMED = 1 << 20, 16
# The same for one row of a, from end to end of b's rows. 1 x 2048 x 2048: 0.67 of the time, from memory 0.42, Zen 4; 8
# at once: 0.73 and 0.49.
KC_ONE_ROW = 16
# Rows of a that lie a multiple of this many bytes apart fall into the same cache sets, and so a is packed.
PAGE_BYTES = 4096
# Bytes between a's columns from which it is packed, since each is on a page of its own. Packing costs 15 % at 64 cubed,
# reading in place 20 % at 1000 cubed, Xeon.
FAR_COLUMNS_BYTES = 1024

# Depth and rows of a block of bfloat16 a, 512 KiB, in three parts 1.5 MiB, which stays in L2. Rounded, KC 1024: 1.06 of
# the time, MC 256: 1.2; split, MC 256: 1.05, 1024-2048-2048-1024-10, Xeon.
BF16_KC = BF16_MC = 512
# Weights of a layer from which its factors are rounded. Smaller ones gain less than packing costs. 64 x 64: 0.70 of
# float32's time with 512 rows, 1.08 with 16, Xeon.
LEAST_ROUNDED = 1 << 12
# Weights times rows from which factors are split in three. 512 x 512: 0.88 of float32's time with 128 rows, 1.05 with
# 32, Xeon.
LEAST_SPLIT = 1 << 25
# Inputs and outputs from which a layer's factors are rounded, or split, and the percentage of its weights that may be
# multiplied with their padding. Split 2048 x 8: 1.80 of float32's time, 1024 x 129, 124 %: 0.78 to 0.96, Xeon.
NARROWEST_ROUNDED, NARROWEST_SPLIT, PADDED_PERCENT = 8, 128, 125

# Rows from which dw (I, O) is made as its transpose, and the percentage by which the elements of whole vectors must be
# fewer so, where the outputs take more than one vector. It saves padding and reads x along its rows, and costs a
# transposition. 784 x 10: 12 us for 35, 400 x 25: 16 us for 26, 128 rows, Xeon.
TRANSPOSED_DW_ROWS, TRANSPOSED_DW_PERCENT = 32, 110

# The largest tile of a product that one thread claims. Larger ones leave threads idle, smaller ones each pack their own
# b: 480 rows are 4 % slower at 1024 and 2048 cubed, Xeon.
TILE_ROWS, TILE_COLUMNS = 1024, 512
# Multiply-adds from which a product runs in a thread of its own, those of a tile then, and the least edge of one.
# Ctrl-C waits for the tiles that are begun.
LONG_PRODUCT, TILE_MULTIPLY_ADDS, TILE_EDGE = 1 << 33, 1 << 31, 64
# Multiply-adds for each thread of a product. Fewer cost more to share than they take.
MULTIPLY_ADDS_PER_THREAD = 1 << 19

# --- Calls from Python: kernels/cpu/__init__.py

# Elements that one call goes over, in 0.1 s or less, where a row has no more. Ctrl-C waits for it.
ELEMENTS_A_CALL = 1 << 25
