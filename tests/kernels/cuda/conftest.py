"""The tests of kernels.cuda need a GPU or numba-cuda's simulator: NUMBA_ENABLE_CUDASIM=1 pytest tests/kernels/cuda.

The simulator runs a Python thread for each of a GPU's, so there blocks are made tiny before the first kernel is made.
What is compiled and only looked at (test_ptx.py) needs neither, and cannot be had in the simulator.
"""

import sys

from kernels import devices

if devices.simulated() and devices.has_extra():
    from kernels.cuda import tuning
    from kernels.cuda.product.blocks import Tile

    # 8 x 8 elements of c by four threads, in two warps side by side
    tuning.NARROW_TILES = dict.fromkeys(tuning.NARROW_TILES, (Tile(8, 8, 4, 4, 4, 2, 1),))
    tuning.TILES = tuning.NARROW_TILES | {
        # what one warp multiplies on tensor cores at least, in one step
        name: (Tile(32, 16, depth, 4, 4, 8, 4, name),)
        for name, depth in (("tf32", 8), ("bf16", 16))
    }
    tuning.TENSOR_WIDTH = 4
    tuning.SPLIT_ROWS = 3
    tuning.THREADS, tuning.ROW_THREADS, tuning.BLOCK_ROWS, tuning.SHORT_COLUMNS = 4, 2, 4, 2
    tuning.COLUMN_LANES = (4, 2)
    tuning.DECAY_PARTS = tuning.CLIP_PARTS = tuning.EXTREMES_PARTS = 2
    # a block's threads take turns at each few instructions, so that what lacks a barrier is seen
    sys.setswitchinterval(1e-5)
