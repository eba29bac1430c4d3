"""The tests of kernels.cuda need a GPU or numba-cuda's simulator: NUMBA_ENABLE_CUDASIM=1 pytest tests/kernels/cuda.

The simulator runs a Python thread for each of a GPU's, so there blocks are made tiny before the first kernel is made.
What is compiled and only looked at (test_ptx.py) needs neither, and cannot be had in the simulator.
"""

import sys

from kernels import devices

if devices.simulated() and devices.has_extra():
    from kernels.cuda.arrays import foreign, strided
    from kernels.cuda.compiler import jit
    from kernels.cuda.engine import engine, launches, steps
    from kernels.cuda.engine.operations import clip
    from kernels.cuda.product import gemm, narrow
    from kernels.cuda.rowwise import row_reductions

    # 8 x 8 elements of c by four threads, in two warps side by side
    narrow.TILES = dict.fromkeys(narrow.TILES, (gemm.Tile(8, 8, 4, 4, 4, 2, 1),))
    gemm.TILES = narrow.TILES | {
        # what one warp multiplies on tensor cores at least, in one step
        name: (gemm.Tile(32, 16, depth, 4, 4, 8, 4, name),)
        for name, depth in (("tf32", 8), ("bf16", 16))
    }
    gemm.TENSOR_WIDTH = 4
    gemm.SPLIT_ROWS = 3
    jit.THREADS, row_reductions.ROW_THREADS, row_reductions.BLOCK_ROWS, row_reductions.SHORT = 4, 2, 4, 2
    launches.COLUMN_LANES = steps.COLUMN_LANES = engine.COLUMN_LANES = (4, 2)
    steps.PARTS = 2
    foreign.PARTS = strided.PARTS = 2
    clip.PARTS = steps.CLIP_PARTS = engine.CLIP_PARTS = 2
    strided.PARTS = foreign.PARTS = engine.PARTS = 2
    # the simulator's scheduler polls, and a thread that is to go on would wait 5 ms for the interpreter
    sys.setswitchinterval(1e-5)
