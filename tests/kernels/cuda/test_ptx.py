"""Every kernel, compiled for GPUs that need not be there: what the compiler made of it, and what ptxas says."""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba import types

from kernels import devices
from kernels.activations import ACTIVATIONS
from tests.programs import PATIENCE, environment, run

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)
if devices.simulated():
    pytest.skip("numba-cuda's simulator compiles nothing", allow_module_level=True)

from kernels.cuda.arrays.strided import copy, extremes
from kernels.cuda.compiler.jit import _configured
from kernels.cuda.engine.operations.clip import clip, squares
from kernels.cuda.engine.operations.dropout import dropout
from kernels.cuda.engine.operations.gather import SOURCES, gather
from kernels.cuda.engine.operations.update import column_sums, decay, kernel_of, sum_parts
from kernels.cuda.ir.ptx import VECTOR_BYTES, lanes
from kernels.cuda.ir.tensor_mma import WORD_ELEMENTS
from kernels.cuda.product import narrow
from kernels.cuda.product.blocks import Tile
from kernels.cuda.product.linear import linear
from kernels.cuda.rowwise.elementwise import backward, forward
from kernels.cuda.rowwise.loss import losses, output, step_sums
from kernels.cuda.tuning import CLIP_PARTS, COLUMN_LANES, NARROW_TILES, ROW_THREADS, THREADS, TILES
from kernels.optimizers.declaration import known_updates
from kernels.optimizers.sgd import SGD

CAPABILITIES = [(7, 5), (8, 0), (9, 0)]
# layout, activation, slope: those of a network's step. gelu is the longest of them
PRODUCTS = [
    ("x @ w", "relu", False), ("x @ w", "gelu", False), ("dz @ w.T", "relu", False), ("dz @ w.T", "relu", True),
    ("dz @ w.T", "gelu", True), ("x.T @ dz", "relu", False),
]  # fmt: skip


def tensor_kernels(precision):
    """In each layout, the largest tile and the smallest, and one with the longest of activations."""
    largest, *_, smallest = TILES[precision]
    for tile in TILES[precision]:
        for layout, activation, slope in PRODUCTS:
            if activation == "relu" and not slope and (layout == "x @ w" or tile in (largest, smallest)):
                yield (
                    f"{precision} {layout} {tile.rows}x{tile.columns}",
                    linear("float32", tile, layout, True, ACTIVATIONS[activation], slope),
                )
    yield f"{precision} x @ w gelu", linear("float32", largest, "x @ w", True, ACTIVATIONS["gelu"], False)
    yield f"{precision} dz @ w.T gelu slope", linear("float32", largest, "dz @ w.T", True, ACTIVATIONS["gelu"], True)
    yield f"{precision} x.T @ dz unaligned", linear("float32", largest, "x.T @ dz", False, ACTIVATIONS["relu"], False)


def product_kernels(dtype):
    """All with the largest tile; with the others, each layout with the longest of activations, which spills first."""
    for tile in TILES[dtype]:
        for layout, activation, slope in PRODUCTS:
            if tile is TILES[dtype][0] or activation == "gelu" or layout == "x.T @ dz":
                shape = f"{tile.rows}x{tile.columns}"
                kernel = linear(dtype, tile, layout, True, ACTIVATIONS[activation], slope)
                yield f"{layout} {shape} {activation}{' slope' * slope}", kernel
    yield "x @ w unaligned", linear(dtype, TILES[dtype][0], "x @ w", False, ACTIVATIONS["relu"], False)
    for tile in NARROW_TILES[dtype]:
        for activation in ("relu", "gelu") if tile is NARROW_TILES[dtype][0] else ("gelu",):
            shape = f"{tile.rows}x{tile.columns} {activation}"
            yield f"narrow x @ w {shape}", narrow.forward(dtype, tile, ACTIVATIONS[activation], dtype)
            yield f"narrow dz @ w.T {shape} slope", narrow.backward(dtype, tile, ACTIVATIONS[activation])
    yield "narrow x @ w of bytes", narrow.forward(dtype, NARROW_TILES[dtype][0], ACTIVATIONS["tanh"], "uint8")


def other_kernels(dtype):
    """All in float32; in float64, whose functions of one number are others, each rule, and once what is around them."""
    everything = dtype == "float32"
    for name in ACTIVATIONS:
        yield name, forward(dtype, ACTIVATIONS[name])
        yield f"{name} backward", backward(dtype, ACTIVATIONS[name])
    for threads in (1, ROW_THREADS):
        for name, family in losses.items():
            if everything or threads == 1 or name == "softmax_cross_entropy":
                yield f"{name} of {threads}", family(dtype, threads, dtype, False)
        yield f"labels of {threads}", losses["softmax_cross_entropy"](dtype, threads, "int64", True)
        yield f"output of {threads}", output(dtype, threads)
    if everything:
        yield "sigmoid_cross_entropy uint8", losses["sigmoid_cross_entropy"](dtype, 1, "uint8", False)
    yield from ((update.name, kernel_of(update, dtype)) for update in known_updates())
    yield "step_sums", step_sums(dtype, THREADS)
    yield "column_sums", column_sums(dtype, *COLUMN_LANES)
    yield "sum_parts", sum_parts(dtype)
    yield "decay", decay(dtype, THREADS)
    yield "dropout", dropout(dtype)
    yield "squares", squares(dtype, THREADS)
    yield "clip", clip(dtype, THREADS, CLIP_PARTS)
    for source in SOURCES.values() if everything else ("float32", "int64"):
        yield f"gather {source}", gather(dtype, source)
    yield "copy", copy(dtype, dtype)
    yield "copy uint8", copy(dtype, "uint8")
    yield "extremes", extremes(dtype, THREADS)


KERNELS = [
    pytest.param(dtype, kernel, id=f"{dtype} {name}")
    for dtype in ("float32", "float64")
    for name, kernel in [*product_kernels(dtype), *other_kernels(dtype)]
]
KERNELS += [
    pytest.param("int64", copy("int64", "int32"), id="copy int32 to int64"),
    pytest.param("int64", extremes("int64", THREADS), id="extremes int64"),
    pytest.param("uint8", extremes("uint8", THREADS), id="extremes uint8"),
]
PRODUCT_KERNELS = [case for case in KERNELS if " @ " in case.id and "unaligned" not in case.id]
TENSOR_KERNELS = [
    pytest.param("float32", kernel, id=name)
    for precision in WORD_ELEMENTS
    for name, kernel in tensor_kernels(precision)
]
KERNELS += TENSOR_KERNELS
SAMPLE = KERNELS[::20]  # compiled for each GPU
COMPARED = [case.values[1] for case in SAMPLE]


def capabilities(kernel):
    """Those of GPUs that have what the kernel uses."""
    constants = kernel.constants
    on_tensor_cores = constants and isinstance(constants[0], Tile) and constants[0].precision
    return [c for c in CAPABILITIES if not on_tensor_cores or c >= devices.TENSOR_CAPABILITY]


def target(capability):
    return ".target sm_{}{}".format(*capability)


@functools.cache
def compiled(kernel, *of_each):
    """Its PTX for each of these capabilities."""
    return kernel.ptx(*of_each)


@functools.cache
def code(kernel):
    """Its PTX by capability, which is compiled once: it is the same for all but for the line that names the target."""
    oldest = capabilities(kernel)[0]
    text, *_ = compiled(kernel, *(capabilities(kernel) if kernel in COMPARED else [oldest]))
    return {capability: text.replace(target(oldest), target(capability)) for capability in capabilities(kernel)}


def ptxas():
    """The assembler that the wheel of nvidia-cuda-nvcc brings, or one on the path."""
    found = sorted(Path(sys.prefix).glob("lib/python*/site-packages/nvidia/cu*/bin/ptxas"))
    return str(found[-1]) if found else shutil.which("ptxas")


def assembled(texts, folder):
    """What ptxas says of each, all at once."""
    running = []
    for (major, minor), text in texts.items():
        path = folder / f"sm_{major}{minor}.ptx"
        path.write_text(text)
        command = [ptxas(), "-v", f"-arch={path.stem}", str(path), "-o", str(path.with_suffix(".cubin"))]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    for process in running:
        said = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 0, said
        yield said


def instructions(text):
    """Lines without comments, directives and the kernel's name, which may hold anything."""
    return "\n".join(line for line in text.splitlines() if re.match(r"\s+(@%?\w+\s+)?[a-z]", line))


@pytest.mark.parametrize("kernel", COMPARED, ids=[case.id for case in SAMPLE])
def test_what_is_compiled_for_one_gpu_is_the_code_of_all(kernel):
    of_each = capabilities(kernel)
    texts = [text.replace(target(c), "") for c, text in zip(of_each, compiled(kernel, *of_each), strict=True)]
    assert texts == texts[:1] * len(of_each)


@pytest.mark.parametrize(("dtype", "kernel"), KERNELS)
def test_every_kernel_compiles_and_counts_in_its_own_dtype(dtype, kernel):
    for capability, text in code(kernel).items():
        assert target(capability) in text
        found = instructions(text)
        assert re.search(r"\bret;", found)
        assert "ld.local" not in found
        assert "st.local" not in found
        if dtype == "float32" and types.Array(types.float64, 1, "C") not in kernel.argtypes:
            assert not re.findall(r".*\.f64.*", found)
        if dtype == "float64":
            assert not re.findall(r"(?:add|mul|fma|div|sqrt)\S*\.f32.*", found)


@pytest.mark.skipif(ptxas() is None, reason="ptxas is not there: pip install 'cuda-toolkit[nvcc]'")
@pytest.mark.parametrize(("dtype", "kernel"), KERNELS)
def test_every_kernel_assembles_without_spills(dtype, kernel, tmp_path):
    texts = code(kernel)
    if not (kernel.constants and isinstance(kernel.constants[0], Tile)):  # products alone need most of the registers
        texts = dict([min(texts.items())])
    for said in assembled(texts, tmp_path):
        stack, stores, loads = map(int, re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said
        ).groups())  # fmt: skip
        assert (stores, loads) == (0, 0)
        assert stack == 0
        registers = int(re.search(r"Used (\d+) registers", said).group(1))
        assert registers * kernel.threads <= 65536, "no block of so many threads fits a multiprocessor's registers"
        shared = re.search(r"(\d+) bytes smem", said)
        assert shared is None or int(shared.group(1)) <= 48 * 1024, "more than a block may have without asking"


@pytest.mark.parametrize(("dtype", "kernel"), PRODUCT_KERNELS)
def test_products_load_and_store_16_bytes_at_once(dtype, kernel):
    width = lanes(dtype)
    assert width == {"float32": 4, "float64": 2}[dtype]
    vector = rf"v{width}\.(f|b|u){8 * VECTOR_BYTES // width}"
    for text in code(kernel).values():
        found = instructions(text)
        assert len(re.findall(rf"ld\.global\.{vector}", found)) >= 2, "both operands from global memory"
        assert len(re.findall(rf"ld\.shared\.{vector}", found)) >= 2, "both operands from shared memory"
        assert re.search(rf"st\.global\.{vector}", found), "the result"


@pytest.mark.parametrize(("dtype", "kernel"), PRODUCT_KERNELS + TENSOR_KERNELS)
def test_shared_memory_begins_where_16_bytes_may_be_read_at_once(dtype, kernel):
    for text in code(kernel).values():
        alignments = [int(n) for n in re.findall(r"\.shared \.align (\d+)", text)]
        assert len(alignments) >= 2
        assert min(alignments) >= VECTOR_BYTES, "else it is up to what lies before it"


@pytest.mark.parametrize(("dtype", "kernel"), PRODUCT_KERNELS)
def test_products_keep_their_sums_in_registers(dtype, kernel):
    tile = kernel.constants[0]
    for text in code(kernel).values():
        multiply_adds = re.findall(rf"fma\.rn\.f{'32' if dtype == 'float32' else '64'}", instructions(text))
        assert len(multiply_adds) >= tile.thread_rows * tile.thread_columns * tile.depth, "a step is no loop"
        assert text.count("bar.sync") + text.count("barrier.sync") >= 2


@pytest.mark.parametrize(("dtype", "kernel"), TENSOR_KERNELS)
def test_tensor_cores_multiply_what_was_rounded_as_it_was_stored(dtype, kernel):
    tile, layout, aligned = kernel.constants[:3]
    kind, words = {"tf32": ("m16n8k8.row.col.f32.tf32.tf32", 1), "bf16": ("m16n8k16.row.col.f32.bf16.bf16", 2)}[
        tile.precision
    ]
    rounding = {"tf32": "cvt.rna.tf32.f32", "bf16": "cvt.rn.bf16x2.f32"}[tile.precision]
    steps, elements = tile.depth // words // 8, (tile.rows + tile.columns) * tile.depth // words // tile.threads
    for text in code(kernel).values():
        found = instructions(text)
        multiplied = found.count(f"mma.sync.aligned.{kind}.f32")
        assert multiplied == steps * tile.thread_rows // 2 * tile.thread_columns // 2, "a step is no loop"
        assert "fma.rn" not in found or ACTIVATIONS["gelu"] in kernel.constants
        assert found.count(rounding) == 2 * elements, "before the loop and in it, each word once in a block"
        assert len(re.findall(r"ld\.global\.v4\.[fbu]32", found)) >= (2 if aligned else 0)
        # of two neighbours at least; of a word's rows, which b has in pairs, four of a
        assert not re.search(r"ld\.shared\.[fbu]32", found), "no word on its own"
        assert (re.search(r"ld\.shared\.v4\.[bu]32", found) is not None) == (layout == "x.T @ dz")
        assert re.search(r"st\.global\.v4\.[fbu]32", found) or not aligned
        assert found.count("bar.sync") + found.count("barrier.sync") >= 2


# What stands in for a GPU here: numba-cuda compiles and caches as it would for one, and leaves out loading the code.
CACHING = """
import re
from types import SimpleNamespace
import numba.cuda.codegen
from numba.cuda import dispatcher
from numba.cuda.cudadrv import devices, runtime
from kernels.process.announcing import announced_to
from kernels.cuda.compiler import jit
from kernels.cuda.compiler import cache, jit
from kernels.cuda.engine.operations.update import kernel_of
from kernels.optimizers.sgd import SGD

device = SimpleNamespace(compute_capability=(8, 0))
dispatcher.get_current_device = lambda: device
devices.get_context = lambda *args: SimpleNamespace(device=device)
runtime.runtime.get_version = lambda: (13, 0)
bound = []
dispatcher._Kernel.bind = lambda self: bound.append(self)
cache.STAMP = "{stamp}"
kernel = kernel_of(SGD().update, "float32")
with announced_to(lambda: print("compiling")):
    kernel.load()
print("loaded" if bound else "not on the GPU")
(loaded,) = kernel._dispatcher.overloads.values()
assert not loaded._codelibrary._lto, "numba-cuda would optimise and assemble once more"
texts = loaded._codelibrary.get_asm_str(cc=(8, 0)), *kernel.ptx((8, 0))
one, other = (re.findall(r"^\\s+([a-z][\\w.]*)", text, re.MULTILINE) for text in texts)
assert one == other and len(one) > 20, "what is loaded is what the tests look at"
"""


def test_a_kernel_is_compiled_once_for_all_processes_until_its_sources_change(tmp_path):
    variables = environment(NUMBA_CACHE_DIR=str(tmp_path))
    said = [run(CACHING.format(stamp=s), env=variables).stdout.split() for s in ("a", "a", "b")]
    assert said == [["compiling", "loaded"], ["loaded"], ["compiling", "loaded"]]


def test_a_launch_of_few_blocks_is_no_reason_for_a_warning():
    kernel = kernel_of(SGD().update, "float32")
    with pytest.warns(Warning, match="under-utilization"):  # what numba-cuda says
        kernel._dispatcher[2, kernel.threads]
    _configured(kernel._dispatcher, 1, kernel.threads)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tile_that_its_threads_cannot_share_is_refused(dtype):
    for tile in (Tile(64, 64, 3, 4, 4), Tile(128, 32, 8, 8, 4, 8, 4, "tf32")):
        with pytest.raises(ValueError, match="must share"):
            linear(dtype, tile, "x @ w", True, ACTIVATIONS["relu"], False)


def test_stray_float64_would_be_seen():
    assert re.findall(r".*\.f64.*", instructions("\tadd.f64 %fd1, %fd2, %fd3;\n"))
    assert not re.findall(r".*\.f64.*", instructions("// add.f64\n.visible .entry name.f64(\n"))
