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

# --- Networks: kernels/cpu/engine. "Widths with rows" is a training step, timed on 2 threads unless said otherwise

# Most rows that go through all layers together. More make fewer products, fewer keep their activations in L2. 384 in
# even chunks: 341 ms an epoch, 240 and a rest: 385, 1024-2048-2048-1024-10 with 512, Xeon.
FORWARD_ROWS = FEW_ROWS
# Rows of a gradient group, which leaves a dw of its own while its activations are hot in the cache of the core that
# made them, and whose dws are added up. Groups come in fours, so that two or four threads have as many, 64 at most.
# Of the time with one dw 0.87 at 2-25-50-50-25-1 with 1000, 0.83 at 64-64-64-10 with 2000, 0.81 at 20-30-3 with
# 4000, Xeon.
GROUP_ROWS, GROUPS_AT_ONCE, MOST_GROUPS = 128, 4, 64
# Rows of a group where there are two, and the activations of a step from which there are groups. Two give each of two
# threads a half. 64-100-10 with 200: 0.88 of the time, in float64 0.84, on one thread 0.97 to 1.05, Xeon.
PAIR_ROWS, GROUPED_ACTIVATIONS = 96, 1 << 15
# Weights of a layer from which each thread reads its part where few rows go forward. Smaller ones cost more to share.
# One row of 1024-2048-2048-1024-10: 0.56 of the time, Xeon; 450-450-10: 0.85 to 0.93, 400-400-10: 1.1 to 1.2, Zen 4.
STREAMED_WEIGHTS = 3 << 16
# Rows and columns of a weight tile, whose dw stays in L2, the largest of which there are LEAST_WEIGHT_TILES. Each packs
# its own dz. 384 x 512: 646 ms an epoch on one thread, 96 x 256: 677, the network above, Xeon.
WEIGHT_TILES, LEAST_WEIGHT_TILES = ((384, 512), (384, 256), (192, 256), (96, 256)), 32
# Bytes of a product's multiply-adds, four each of float32, between two looks at whether the job is given up, and the
# columns that its parts are multiples of. Ctrl-C waits for a part. 2^31 multiply-adds: 0.04 s with AVX-512, 0.08 with
# AVX2.
PART_BYTES, PART_COLUMNS = 1 << 33, 64
# Multiply-adds from which a job runs in a thread of its own, 0.1 to 0.3 s of one core, since Ctrl-C waits for the
# calling thread; and how many of them take as long as a row's activations of a unit, and as the update of a parameter.
LONG_JOB, MULTIPLY_ADDS_A_UNIT, MULTIPLY_ADDS_A_PARAMETER = 1 << 33, 128, 64
# Parameters that are looked through at a time. More would not stay in a cache with what NumPy notes of each.
PARAMETERS_AT_ONCE = 1 << 16
# Columns whose random words are drawn at once. They stay in L1.
DROPOUT_COLUMNS = 256

# --- Threads: kernels/cpu/engine/thread_counts.py and kernels/cpu/threads

# Multiply-adds of gradients for each thread, in float32; float64's count twice. Fewer cost more to share.
GRADIENTS_PER_THREAD = 1 << 20
# Those of a forward pass, and of one whose weights are read in parts. 784-256-128-10: 3 rows take 1.15 to 1.2 of one
# thread's time, 4 and 6 rows 0.85 to 1.1.
FORWARD_PER_THREAD, STREAMED_PER_THREAD = 3 << 17, STREAMED_WEIGHTS // 2
# Rows that take about as long as fewer of them, since reading the weights is what counts.
ROWS_FROM_MEMORY = 16
# Multiply-adds of a training step for each thread from which more threads are tried, and from which they are taken
# without a trial.
STEPS_TRIED, STEPS_SURE = 1 << 17, 1 << 22
# How often each number of threads is tried, the first time to wake them, and the multiply-adds of a trial: 1.2 ms of
# one thread. The least time of a step counts; a briefer trial would say more of how steps begin.
TRIALS, TRIAL_MULTIPLY_ADDS = 3, 1 << 26
# Seconds until numbers of threads are tried again. They double while the answer stays the same. Steps that have become
# SLOWER times as slow do not wait longer than FIRST_WAIT.
FIRST_WAIT, MOST_WAIT, SLOWER = 0.1, 4.0, 1.25
# Share of the time that more threads must come below. What saves less is left to other programs.
GAIN = 0.97
# Looks for work before a worker sleeps, 20 to 200 us. Fewer are shorter than the gap between two slices of a fit, more
# would be noticed by others.
IDLE_SPINS = 2000
# Pauses of a thread that waits for others before it gives its core away: 10 cycles each (Zen 4) to 140 (Xeon), 5 to 50
# us in all.
PAUSES = 1000
# Multiply-adds up to which work is brief, done before a sleeping worker has come: waking takes 30 us. Microseconds on 2
# threads and 1, in a row of calls and alone: 128 cubed 25 and 32, 67 and 35, 256 cubed 104 and 191, 168 and 190, Xeon.
BRIEF = 12 << 20
# Calls in a row, and the nanoseconds between two of them, from which brief work is shared: the worker is still awake.
STREAK, SOON = 4, 200_000
# Nanoseconds of work that is judged, and the percentage of them that may be lost to waiting for a worker whose core
# another program has. Beyond it the caller works alone. Beside a busy process on one of 2 cores, before and after:
# predicting 32 rows of 784-256-128-10 1.33 and 1.02 of one thread's time, training 32-64x10-10 1.26 and 1.07, Zen 4.
LOOK, DISTURBED_PERCENT = 100_000_000, 25
# Nanoseconds that it works alone, which double each time.
FIRST_PAUSE, MOST_PAUSE = 250_000_000, 4_000_000_000

# Columns that batch normalisation does at once: whole cache lines, and enough tiles for the threads.
NORM_COLUMNS = 64

# --- Row by row: kernels/cpu/rowwise and kernels/cpu/ir

# Vectors of rows in a block that is transposed.
BLOCK_VECTORS = 4
# Rows from which a block is transposed by vectors. One row of 10 outputs: 0.2 us, as a vector of rows 0.5.
LEAST_LANE_ROWS = 8
# Rows or columns up to which a matrix is transposed number by number. 50 x 2: 50 ns, by vectors 90.
NARROW = 2
