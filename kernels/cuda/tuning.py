"""Every tuned number of the GPU kernels: its unit, and what it trades.

None of them has been measured on a GPU. The tiles are as large as registers and 48 KiB of shared memory allow
without spills, which tests look at. Kernels and launches read these when they are made, so a test may change them.
"""

from kernels.cuda.product.blocks import Tile

THREADS = 256  # threads of a block, where nothing else decides: more hide latency, fewer leave less of a block idle

# Which tile for which product: the first that is less than half empty and gives every multiprocessor something to do.
# Large ones read each operand less often, small ones keep more multiprocessors at work. The shapes are the usual ones
# (Boehm 2022, "How to Optimize a CUDA Matmul Kernel for cuBLAS-like Performance"), and narrower ones for narrow layers.
# A step of the largest float32 one is 512 multiply-adds, 32 loads and 3 other instructions on sm_90 (nvdisasm 13.4).
TILES = {
    "float32": (
        Tile(128, 128, 8, 8, 8),  # 4096 x 4096
        Tile(128, 64, 8, 8, 8),  # 65536 x 64
        Tile(128, 32, 16, 8, 4),  # 65536 x 10
        Tile(64, 64, 16, 4, 4),  # 512 x 256
        Tile(32, 32, 16, 4, 4),  # 128 x 256
    ),
    "float64": (Tile(64, 64, 8, 4, 4), Tile(32, 32, 8, 4, 4)),
    "tf32": (
        Tile(128, 128, 8, 8, 16, 8, 4, "tf32"), Tile(128, 64, 16, 8, 8, 8, 4, "tf32"),
        Tile(64, 64, 16, 4, 8, 8, 4, "tf32"), Tile(32, 32, 16, 4, 4, 8, 4, "tf32"),
    ),
    "bf16": (
        Tile(128, 128, 16, 8, 16, 8, 4, "bf16"), Tile(128, 64, 32, 8, 8, 8, 4, "bf16"),
        Tile(64, 64, 32, 4, 8, 8, 4, "bf16"), Tile(32, 32, 32, 4, 4, 8, 4, "bf16"),
    ),
}  # fmt: skip

# Tiles of networks that go through all layers in one launch, by width, then by rows: as above
NARROW_TILES = {
    "float32": (
        Tile(64, 32, 16, 4, 4), Tile(32, 32, 16, 4, 4),
        Tile(64, 64, 8, 8, 4), Tile(32, 64, 16, 4, 4),
        Tile(64, 128, 8, 8, 8), Tile(32, 128, 16, 4, 8),
    ),
    "float64": (Tile(32, 32, 8, 4, 4), Tile(32, 64, 8, 4, 4)),
}  # fmt: skip

# Inputs and outputs that a layer must have at least for tensor cores, where these are asked for: narrower layers have
# too little to multiply to gain by it what they lose in digits
TENSOR_WIDTH = 32

# Where dw has few tiles, the sum over the batch's rows is split into parts: as many as make SPLIT_BLOCKS blocks of the
# smallest tile, of SPLIT_ROWS rows at least. More parts keep more multiprocessors at work, and have to be added up
SPLIT_BLOCKS = 256
SPLIT_ROWS = 128

# Rows of at most SHORT_COLUMNS columns are taken by a thread each, BLOCK_ROWS of them a block, and others by a block of
# ROW_THREADS threads: a thread per row does not wait for others, a block reads a row's neighbours at once
SHORT_COLUMNS = 16
BLOCK_ROWS = 128
ROW_THREADS = 32

# Of column_sums, columns of a block and threads that share a column: columns are read side by side, threads shorten
# the sums
COLUMN_LANES = (32, 8)

# Blocks, each of which leaves a partial result: more read faster, and leave more to be added up
DECAY_PARTS = 64  # of a layer's squared weights
CLIP_PARTS = 64  # of the gradient's squares
EXTREMES_PARTS = 64  # of an array's smallest and largest elements

# Activations, in elements, of the rows that go through all layers together: fewer launches for more memory
FORWARD_ELEMENTS = 1 << 25

# What the host remembers: more is made anew less often, and takes more of its memory
LAUNCHES = 64  # of a kernel, by their number of blocks and stream
PLANS = 16  # of a network, by the rows of a batch: which products its steps launch

# Bytes that are copied to the GPU at once, so that a memory map stays one: more take more of the host's memory
COPY_BYTES = 1 << 24
