"""The oracle's tests again, compiled for instruction sets that are older than this machine's."""

import platform

import pytest

from kernels.cpu.ir import instruction_sets
from tests.programs import environment, run

PROGRAM = """
from kernels.cpu.ir import instruction_sets
from tests.fastnn import test_gradients as gradients
from tests.kernels import test_linear as linear
from tests.kernels import test_scalar as scalars

assert instruction_sets.chosen().name == "NAME", instruction_sets.chosen()
linear.test_more_rows_than_are_packed_at_once()
for dtype in linear.DTYPES:
    for rows in linear.SIZES:
        linear.test_awkward_sizes(rows, dtype)
    for rows in (1, 8, 12, 21, 113, 300):
        for stride in (1024, 4096):
            linear.test_row_strides_that_map_to_one_cache_set(stride, rows, dtype)
    for activation in ("identity", "relu", "tanh"):
        linear.test_nan_and_infinity(activation, dtype)
for dtype in gradients.DTYPES:
    for widths in ([1, 2], [17, 65, 1, 17, 4], [65, 130, 33, 3]):
        model = gradients.make_model(widths, ["relu", "tanh", "relu"][: len(widths) - 2], "softmax", dtype)
        for rows in (1, 17, 300):
            data = gradients.make_data(model, rows, "softmax_cross_entropy", dtype)
            gradients.check(model, *data, "softmax_cross_entropy")
    for name, bound in scalars.MAX_ULP.items():
        error, at = scalars.worst(name, scalars.sample(name, dtype))
        assert error <= bound, (name, dtype, error, at)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs a machine that runs x86-64 code")
@pytest.mark.parametrize(("cpu", "name"), [("haswell", "avx2"), ("x86-64", "generic")])
def test_older_instruction_sets(cpu, name, tmp_path):
    if instruction_sets.chosen().name == name:
        pytest.skip(f"all tests run on {name} on this machine")
    variables = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    run(PROGRAM.replace("NAME", name), env=environment(**variables))


# The geometry of NEON's block, three vectors of four, on the generic set
THREE_VECTORS = """
from dataclasses import replace
from kernels.cpu.ir.instruction_sets import INSTRUCTION_SETS, chosen
INSTRUCTION_SETS["generic"] = replace(INSTRUCTION_SETS["generic"], mr=8, nv=3)
import kernels
from kernels import reference
from tests.oracle import assert_close, random_arrays

assert chosen().nv == 3
for dtype in ("float32", "float64"):
    for m in (1, 2, 3, 8, 50):
        for n in (1, 11, 12, 13, 24, 33, 100):
            x, w, dy = random_arrays(m + n, (m, 37), (37, n), (m, n), dtype=dtype)
            assert_close(kernels.linear(x, w), reference.linear(x, w), dtype, 37)
            for actual, expected in zip(kernels.linear_backward(dy, x, w), reference.linear_backward(dy, x, w)):
                assert_close(actual, expected, dtype, max(m, n))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs a machine that runs x86-64 code")
def test_three_vectors(tmp_path):
    variables = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    run(THREE_VECTORS, env=environment(**variables))
