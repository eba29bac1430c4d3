"""The network with a clock in it, what it counts, and the measured ceilings."""

from dataclasses import replace
from itertools import pairwise

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from kernels import maths
from kernels.activations import ACTIVATIONS
from kernels.cpu.engine.engine import Engine
from kernels.cpu.ir.instruction_sets import chosen
from kernels.cpu.measure import ceilings, stamps
from kernels.cpu.measure.counts import operations_of, step_counts
from kernels.cpu.measure.timed_engine import TimedEngine
from kernels.engine.network import perceptron
from kernels.layout import Layout, address, aligned_zeros
from kernels.optimizers.adam import adam
from kernels.optimizers.sgd import SGD, momentum, sgd
from tests.oracle import random_arrays, random_labels
from tests.requests import train_request

WIDTHS, ROWS, STEPS = [30, 300, 40, 10], 200, 20
# By layers as far as their weights are more than what goes in and out; rows through all layers; with shares of dw
BATCHES = 64, 128, 2048


def train(kind, threads, activations, batch, clip_norm=None):
    """The engine after some steps, and what it was asked for."""
    parameters = aligned_zeros(Layout.of(perceptron(WIDTHS), "float32").size, np.float32)
    parameters[...] = 0.1 * random_arrays(0, parameters.shape, dtype=np.float32)[0]
    engine = kind(perceptron(WIDTHS, activations), parameters, threads)
    (x,) = random_arrays(1, (ROWS, WIDTHS[0]))
    request = train_request(
        x, random_labels(2, ROWS, WIDTHS[-1]), order=np.resize(np.arange(ROWS, dtype=np.uint32)[::-1], STEPS * batch),
        total=STEPS * batch, size=batch, scales=np.full(STEPS, 1 / batch), loss="softmax_cross_entropy", metric="label",
        l2=0.1, update=SGD().update, state=[], scalars=np.full((STEPS, 1), 0.1), clip_norm=clip_norm,
    )  # fmt: skip
    engine.train(request)
    return engine, request


@pytest.mark.parametrize("activations", [["relu", "tanh"], ["silu", "identity"]])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", BATCHES)
def test_the_clock_changes_no_bit(batch, threads, activations):
    timed, _ = train(TimedEngine, threads, activations, batch)
    plain, _ = train(Engine, threads, activations, batch)
    np.testing.assert_array_equal(timed.parameters, plain.parameters)


@pytest.mark.parametrize("activations", [["relu", "tanh"], ["silu", "identity"]])
@pytest.mark.parametrize("batch", BATCHES)
def test_what_is_counted_is_what_is_done(batch, activations):
    engine, request = train(TimedEngine, 2, activations, batch)
    counted = step_counts(engine, request)
    done = {(n, stamps.PHASES[phase]) for n, phase in np.argwhere(engine.ticks > 0)}
    assert done == counted.keys()
    assert engine.ticks.min() >= 0
    assert engine.seconds > 0
    assert ((0, "sum") in counted) == (batch == 2048)
    assert [n for n in range(3) if (n, "transpose") in counted] == ([2] if batch == 64 else [1, 2])


@pytest.mark.parametrize("threads", [1, 2])
def test_clipping_is_a_phase(threads):
    engine, request = train(TimedEngine, threads, ["relu", "tanh"], 64, clip_norm=1.0)
    counted = step_counts(engine, request)
    assert (0, "clip") in {(n, stamps.PHASES[phase]) for n, phase in np.argwhere(engine.ticks > 0)}
    n_parameters = sum(i * o + o for i, o in pairwise(WIDTHS))
    assert counted[0, "clip"] == (2 * n_parameters, 4 * n_parameters)
    plain = replace(request, descent=replace(request.descent, clip_norm=None))
    assert counted.keys() - step_counts(engine, plain).keys() == {(0, "clip")}


def test_operations_of_scalar_functions():
    """Some that are short enough to be counted by eye; double precision has longer polynomials."""
    exponentials = []
    for dtype in ("float32", "float64"):
        exponentials.append(operations_of(maths.exp, dtype))
        function = {name: ACTIVATIONS[name].function for name in ACTIVATIONS}
        slope = {name: ACTIVATIONS[name].slope for name in ACTIVATIONS}
        rules = function["relu"], function["leaky_relu"], slope["sigmoid"], slope["tanh"], sgd, momentum, adam
        assert [operations_of(rule, dtype) for rule in rules] == [0, 1, 2, 2, 2, 7, 14]
        beyond = [operations_of(rule, dtype) - exponentials[-1] for rule in (function["sigmoid"], function["silu"])]
        assert beyond == [2, 3]
    assert exponentials == [3 + 4 + 5 * 2 + 4 + 3 + 3, 3 + 4 + 5 * 2 + 4 + 3 + 3 + 2 * (12 - 6)]


@pytest.mark.parametrize("n_bytes", [ceilings.LEAST_BUFFER, 3 * ceilings.LEAST_BUFFER + 100])
def test_stream_reads_and_writes_what_it_says(n_bytes):
    block = ceilings.STREAM * chosen().register_bytes
    blocks = n_bytes // 2 // block
    n = blocks * block // 4
    x, y = aligned_zeros(n, np.float32), aligned_zeros(n + 1, np.float32)
    x[...], y[-1] = np.arange(n) % 100, 7
    ceilings.stream["float32"](3, blocks, address(x), address(y))
    np.testing.assert_array_equal(y[:-1], 3 * x * x)
    assert y[-1] == 7
    assert ceilings.bandwidth(np.zeros(n_bytes, np.uint8), 1e-5) > 0


@pytest.mark.parametrize(
    ("triple", "counter"), [("x86_64-unknown-linux-gnu", "rdtsc"), ("aarch64-unknown-linux-gnu", "cntvct_el0")]
)
def test_counters_that_a_program_may_read(triple, counter):
    """Arm's cycle counter would stop it; LLVM takes the virtual timer's. Assembled, as nothing here runs on Arm."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module("clock")
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(ir.IntType(64), []), "ticks")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(stamps.read_counter(builder))
    machine = llvm.Target.from_triple(triple).create_target_machine(opt=2)
    assert counter in machine.emit_assembly(llvm.parse_assembly(str(module))).lower()
