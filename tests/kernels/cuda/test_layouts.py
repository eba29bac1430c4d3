"""The public kernels on arrays of the GPU that lie in memory in any way, and on empty ones, whose address is 0."""

import itertools

import numpy as np
import pytest

import kernels
from kernels import devices, reference

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)

from numba import cuda

from kernels.cuda.driver.device_arrays import address
from kernels.losses import LOSSES
from tests import layouts, oracle
from tests.kernels.cuda.device import SIMULATED
from tests.kernels.test_layouts import CALLS, CHANGED, OUTPUTS, expected_of, function_of, values_of

SIZES = {"B": 5, "I": 2, "O": 3}
EMPTY = [dict(zip("BIO", sizes)) for sizes in itertools.product((0, 3), repeat=3) if 0 in sizes]
# in the simulator a thread of the GPU takes a millisecond: of the losses that have a rule, which lie alike, one
SOME = [call for call in CALLS if call not in LOSSES or LOSSES[call].kernel or call == "sigmoid_cross_entropy"]


class Laid:
    """An array of another library that lies on the GPU as one of NumPy's does on the host."""

    def __init__(self, view):
        memory = layouts.memory_of(view)
        raw = np.frombuffer(memory.tobytes("A"), np.uint8).copy()
        self.memory = raw if SIMULATED else cuda.to_device(raw)
        self.offset = view.ctypes.data - memory.ctypes.data
        self.shape, self.strides, self.dtype, self.empty = view.shape, view.strides, view.dtype, view.size == 0

    @property
    def __cuda_array_interface__(self):
        at = 0 if self.empty else self.offset + (self.memory.ctypes.data if SIMULATED else address(self.memory))
        return {"shape": self.shape, "strides": self.strides, "typestr": self.dtype.str, "data": (at, False),
                "version": 3}  # fmt: skip

    def host(self):
        raw = self.memory if SIMULATED else self.memory.copy_to_host()
        return np.ndarray(self.shape, self.dtype, raw.copy(), self.offset, self.strides)


def check(call, given):
    expected, laid = expected_of(call, given), {name: Laid(a) for name, a in given.items()}
    result = function_of(call, kernels)(*laid.values())
    depth = sum(max(a.shape) for a in given.values())
    for name, array in laid.items():
        written = name in OUTPUTS | CHANGED
        if written or array.dtype != np.int64:
            wanted = expected[name] if written else given[name]
            oracle.assert_close(array.host(), wanted, array.dtype, depth, abs(wanted).max(initial=1))
    if expected["loss"] is not None:
        oracle.assert_close(np.asarray(result[0]), expected["loss"], next(iter(given.values())).dtype, depth)


@pytest.mark.parametrize(("down", "across"), [(0, 1), (1, 0), (-1, 2)])
@pytest.mark.parametrize("call", SOME)
def test_layouts(call, down, across):
    given = values_of(call, SIZES, "float32")
    for name, a in given.items():
        steps = (down, across) if a.ndim == 2 else (down,)
        if name in OUTPUTS | CHANGED:  # which may not share elements
            steps = [step or 1 for step in steps]
        given[name] = layouts.strided(a, steps)
    check(call, given)


@pytest.mark.parametrize("call", SOME)
def test_empty(call):
    for sizes in EMPTY:
        given = values_of(call, sizes, "float64")
        if "labels" not in given or sizes["B"] == 0 or sizes["O"] > 0:  # there is no label of no classes
            check(call, given)


def test_what_cannot_be_taken_is_said():
    x, w = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"^x must have elements at multiples of their 4 bytes: copy it first$"):
        kernels.linear(Laid(layouts.misaligned(x)), Laid(w))
    out = layouts.strided(np.ones((2, 2), np.float32), (0, 1))
    with pytest.raises(ValueError, match=r"^out must have strides that keep its elements apart, got shape"):
        kernels.linear(Laid(x), Laid(w), out=Laid(out))
    np.testing.assert_array_equal(kernels.linear(Laid(x), Laid(w)).copy_to_host(), reference.linear(x, w))
