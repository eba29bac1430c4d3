"""Products of factors rounded to bfloat16: against the same products in float64, by AMX and by AVX-512."""

import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba import types

from kernels.cpu import tuning
from kernels.cpu.engine.engine import Engine
from kernels.cpu.ir import instruction_sets
from kernels.cpu.ir.instruction_sets import bf16_unit
from kernels.cpu.product import bf16
from kernels.cpu.product.gemm import gemm
from kernels.cpu.product.gemm_bf16 import gemm_amx, gemm_dot, gemm_split, product_for
from kernels.cpu.tuning import BF16_KC, BF16_MC, LEAST_ROUNDED, LEAST_SPLIT
from kernels.engine.network import perceptron
from kernels.layout import Layout, address, aligned_zeros
from kernels.optimizers.sgd import SGD
from tests.oracle import random_arrays, random_labels, random_network
from tests.requests import train_request

UNIT = bf16_unit()
needs_amx = pytest.mark.skipif(UNIT != "amx", reason="this CPU or system has no AMX")
KERNELS = [
    pytest.param(gemm_amx, marks=needs_amx, id="amx"),
    pytest.param(gemm_dot, marks=pytest.mark.skipif(not UNIT, reason="this CPU has no AVX512-BF16"), id="dot"),
    pytest.param(gemm_split, marks=needs_amx, id="split"),
]
needs_bf16 = pytest.mark.skipif(not UNIT, reason="this CPU has no AVX512-BF16")
EPS = 2.0**-24
NO_FLOOR = float("-inf")


def rounded(x):
    """x to the nearest bfloat16, ties to even, subnormal numbers to 0; float64."""
    bits = x.view(np.uint32)
    nearest = (bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.abs(nearest) < np.finfo(np.float32).tiny, 0, nearest).astype(np.float64)


def multiply(kernel, a, b, c, init=None, floor=NO_FLOOR, lanes_exist=False):
    """c = max(init + a @ b, floor); a or b may be the transpose of what is in memory."""
    (m, k), n, size = a.shape, b.shape[1], 4
    transposed = b.strides[1] != size
    ldb = b.strides[1 if transposed else 0]
    init_at, init_row = (0, 0) if init is None else (address(init), init.strides[0] if init.ndim == 2 else 0)
    kernel["float32"](
        m, n, k, address(a), *a.strides, address(b), ldb, address(c), c.strides[0], init_at, init_row, floor,
        int(transposed), int(lanes_exist),
    )  # fmt: skip


def check(kernel, c, a, b, start=0.0):
    """Each element is within k + 4 roundings of the exact one, of the sum of what it adds up."""
    if kernel is not gemm_split:
        a, b = rounded(a), rounded(b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    exact, size = a @ b + start, np.abs(a) @ np.abs(b) + np.abs(start)
    assert (np.abs(c - exact) <= (a.shape[1] + 4) * 2 * EPS * size).all()


SHAPES = [
    (1, 1, 1),
    (16, 16, 32),
    (32, 32, 64),
    (33, 17, 31),
    (5, 200, 65),
    (BF16_MC + 1, 50, 33),
    (40, 70, 2 * BF16_KC + 5),
]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_products(shape, across, transposed, kernel):
    m, n, k = shape
    a, b, bias, start = random_arrays(
        0, (k, m) if across else (m, k), (n, k) if transposed else (k, n), (n,), (m, n), dtype="float32"
    )
    a, b = a.T if across else a, b.T if transposed else b
    c = np.full((m, n + 3), np.nan, np.float32)
    multiply(kernel, a, b, c[:, :n])
    check(kernel, c[:, :n], a, b)
    multiply(kernel, a, b, c[:, :n], bias, floor=0.0)
    assert (c[:, :n] >= 0).all()
    clipped = c[:, :n] == 0
    multiply(kernel, a, b, c[:, :n], bias)
    check(kernel, c[:, :n], a, b, bias)
    np.testing.assert_array_equal(c[:, :n] <= 0, clipped)
    c[:, :n] = start
    multiply(kernel, a, b, c[:, :n], c[:, :n])
    check(kernel, c[:, :n], a, b, start)
    assert np.isnan(c[:, n:]).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_bit_depends_on_the_split(kernel):
    a, b = random_arrays(1, (70, BF16_KC + 50), (BF16_KC + 50, 90), dtype="float32")
    whole, parts = np.empty((70, 90), np.float32), np.empty((70, 90), np.float32)
    multiply(kernel, a, b, whole)
    for rows in (slice(0, 1), slice(1, 33), slice(33, 70)):
        for columns in (slice(0, 48), slice(48, 90)):
            multiply(kernel, a[rows], b[:, columns], parts[rows, columns])
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("kernel", KERNELS)
def test_whole_vectors_where_they_exist(kernel):
    a, b = random_arrays(2, (20, 40), (40, 32), dtype="float32")
    b[:, 17:] = 0
    c = np.full((20, 32), np.nan, np.float32)
    multiply(kernel, a, b[:, :17], c[:, :17], lanes_exist=True)
    check(kernel, c, a, b)


@pytest.mark.parametrize("kernel", KERNELS[:2])
def test_rounding(kernel):
    step = 2.0**-7
    values = [1 + step / 2, 1 + 1.5 * step, 1 + step / 2 + 2.0**-20, -1 - step / 2, 3e38, 1e-40, 65504.0, 1 / 3]
    a = np.array(values, np.float32)[:, np.newaxis]
    c = np.zeros((len(values), 1), np.float32)
    multiply(kernel, a, np.ones((1, 1), np.float32), c)
    np.testing.assert_array_equal(c[:, 0], rounded(a)[:, 0])
    assert c[0, 0] == 1
    assert c[1, 0] == 1 + 2 * step


@needs_amx
def test_the_parts_of_a_number_add_up_to_it():
    a = np.concatenate(random_arrays(3, (300, 1), (300, 1), dtype="float32"))
    a[300:] *= np.logspace(-29, 37, 300, dtype=np.float32)[:, np.newaxis]
    a[:3, 0] = np.finfo(np.float32).max, -np.finfo(np.float32).max, np.nextafter(np.float32(1), np.float32(2))
    c, d = np.zeros((600, 1), np.float32), np.zeros((1, 600), np.float32)
    multiply(gemm_split, a, np.ones((1, 1), np.float32), c)
    np.testing.assert_array_equal(c, a)
    multiply(gemm_split, np.ones((1, 1), np.float32), a.T, d)
    np.testing.assert_array_equal(d, a.T)
    # the lower parts of what is so small are subnormal: they count as zero
    a = np.float32(1e-37) * (1 + np.abs(random_arrays(4, (600, 1), dtype="float32")[0]))
    multiply(gemm_split, a, np.ones((1, 1), np.float32), c)
    assert np.abs(c.astype(np.float64) - a).max() < np.finfo(np.float32).tiny
    assert (c != 0).all()


@needs_amx
def test_split_sums_are_closer_than_those_of_multiply_adds():
    a, b = (np.abs(array) for array in random_arrays(4, (64, 1000), (1000, 64), dtype="float32"))
    exact, errors = a.astype(np.float64) @ b.astype(np.float64), {}
    for kernel in (gemm, gemm_split):
        c = np.zeros((64, 64), np.float32)
        multiply(kernel, a, b, c)
        errors[kernel.name] = np.sqrt(np.mean((c - exact) ** 2))
    assert 0 < errors["gemm_split"] < 0.5 * errors["gemm"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_infinity_and_nan(kernel):
    a = np.array([[np.nan, 1], [np.inf, 1.1], [np.inf, -np.inf], [1, 1]], np.float32)
    c = np.zeros((4, 1), np.float32)
    multiply(kernel, a, np.ones((2, 1), np.float32), c, floor=0.0)
    np.testing.assert_array_equal(c[:, 0], [np.nan, np.inf, np.nan, 2])
    a, b = random_arrays(5, (50, 70), (70, 40), dtype="float32")
    clean, c = np.zeros((50, 40), np.float32), np.zeros((50, 40), np.float32)
    multiply(kernel, a, b, clean)
    a[7, 3], a[40, 69], b[5, 8], b[0, 33] = np.inf, np.nan, -np.inf, np.nan
    multiply(kernel, a, b, c)
    with np.errstate(invalid="ignore"):
        expected = a.astype(np.float64) @ b.astype(np.float64)
    touched = ~np.isfinite(expected)
    np.testing.assert_array_equal(c[touched], expected[touched])
    np.testing.assert_array_equal(c[~touched], clean[~touched])


def make_engine(widths, precision, threads=1, activation="relu"):
    layout = Layout.of(perceptron(widths), "float32")
    parameters = aligned_zeros(layout.size, "float32")
    weights, biases = random_network(0, widths)
    for view, values in zip(layout.weights(parameters) + layout.biases(parameters), weights + biases, strict=True):
        view[...] = values
    hidden = [activation] * (len(widths) - 2)
    return Engine(perceptron(widths, hidden), parameters, threads, precision)


def trained(widths, precision, threads=1, rows=300, steps=3):
    """(losses, parameters, outputs) after `steps` steps."""
    engine = make_engine(widths, precision, threads)
    (x,) = random_arrays(1, (rows, widths[0]), dtype="float32")
    scalars = np.full((steps, 1), 0.1)
    losses, _ = engine.train(train_request(
        x, random_labels(2, rows, widths[-1]), total=rows, size=rows // steps,
        scales=np.full(steps, steps / rows), loss="softmax_cross_entropy", update=SGD().update, state=[],
        scalars=scalars,
    ))  # fmt: skip
    outputs = np.empty((rows, widths[-1]), np.float32)
    engine.forward(x, out=outputs)
    return losses, engine.parameters, outputs


@needs_bf16
@pytest.mark.parametrize("rows", [300, 1500])  # the second in groups of rows
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_same_bits_with_any_number_of_threads(precision, rows, monkeypatch):
    monkeypatch.setattr(tuning, "LEAST_SPLIT", 0)
    widths = [250, 190, 65, 10]
    one = trained(widths, precision, rows=rows)
    for threads in (2, 3):
        for actual, expected in zip(trained(widths, precision, threads, rows), one, strict=True):
            np.testing.assert_array_equal(actual, expected)


@needs_amx
def test_large_layers_of_float32_are_split(monkeypatch):
    widths = [250, 190, 65, 10]
    plain = trained(widths, "float32")
    monkeypatch.setattr(tuning, "LEAST_SPLIT", 0)
    for actual, expected in zip(trained(widths, "float32"), plain, strict=True):
        difference = np.abs(actual - expected).max() / np.abs(expected).max()
        assert 0 < difference < 2.0**-18
    rows = LEAST_SPLIT // 128**2
    monkeypatch.undo()
    assert product_for("float32", np.dtype("float32"), 128, 128, rows) is gemm_split
    assert product_for("float32", np.dtype("float32"), 128, 128, rows - 1) is gemm
    assert product_for("float32", np.dtype("float64"), 128, 128, rows) is gemm
    assert product_for("float32", np.dtype("float32"), 10_000, 96, 10 * rows) is gemm  # narrow
    assert product_for("float32", np.dtype("float32"), 130, 130, 10 * rows) is gemm  # mostly 160 x 160


@needs_bf16
def test_training_is_that_of_float32_but_for_the_rounding():
    widths = [70, 130, 65, 10]
    for actual, expected in zip(trained(widths, "bf16"), trained(widths, "float32"), strict=True):
        difference = np.abs(actual - expected).max() / np.abs(expected).max()
        assert 1e-5 < difference < 2.0**-6


@needs_bf16
def test_small_layers_stay_in_float32():
    widths = [8, 20, 20, 3]
    for actual, expected in zip(trained(widths, "bf16"), trained(widths, "float32"), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert product_for("bf16", "float32", LEAST_ROUNDED // 8, 8, 1) is not gemm
    assert product_for("bf16", "float32", LEAST_ROUNDED // 8 - 1, 8, 1000) is gemm
    assert product_for("bf16", "float32", LEAST_ROUNDED, 7, 1000) is gemm


@pytest.mark.parametrize(
    ("cpu", "block", "instruction", "count"),
    [
        ("znver4", bf16.dot_block, "vdpbf16ps", 16 * 16),
        ("sapphirerapids", bf16.amx_block(1), "tdpbf16ps", 4),
        ("sapphirerapids", bf16.amx_block(3), "tdpbf16ps", 24),
    ],
)
def test_the_inner_loop_spills_no_register(cpu, block, instruction, count):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module("block")
    module.triple = "x86_64-unknown-linux-gnu"
    block(module, instruction_sets.INSTRUCTION_SETS["avx512"], types.float32).linkage = "external"
    machine = llvm.Target.from_triple(module.triple).create_target_machine(cpu=cpu, features="", opt=3)
    parsed = llvm.parse_assembly(str(module))
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    text = machine.emit_assembly(parsed)
    assert len(re.findall(rf"\b{instruction}\b", text)) == count
    assert "(%rsp)" not in text
