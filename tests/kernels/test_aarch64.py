"""Kernels for 64-bit Arm, made on whatever machine this is and run under qemu: against the oracle in float64."""

import json
import platform
import shutil
import subprocess

import numpy as np
import pytest

from kernels import reference
from kernels.cpu.compiler.shipped import build
from kernels.cpu.compiler.shipped.levels import LEVELS
from tests.oracle import assert_close, random_arrays

COMPILER, EMULATOR, LIBRARIES = "aarch64-linux-gnu-gcc", "qemu-aarch64-static", "/usr/aarch64-linux-gnu"
pytestmark = [
    pytest.mark.skipif(not shutil.which(COMPILER), reason=f"{COMPILER} is not installed"),
    pytest.mark.skipif(not shutil.which(EMULATOR), reason=f"{EMULATOR} is not installed"),
    pytest.mark.skipif(platform.machine() == "aarch64", reason="all tests run on this machine's own kernels"),
]


@pytest.fixture(scope="session")
def arm(tmp_path_factory):
    """(shared object, symbols by kernels' names) of the usual kernels."""
    made = build.make(LEVELS["aarch64"], tmp_path_factory.mktemp("arm"), jobs=2, usual=True)
    symbols = json.loads(made.with_suffix(".json").read_text())["kernels"]
    return made, symbols


class Program:
    """A C program that calls kernels on arrays and writes what is in those of zeros then."""

    def __init__(self, symbols):
        self.symbols, self.arrays, self.calls, self.outputs, self.declared = symbols, [], [], [], {}

    def array(self, values):
        """The name of an array with these values."""
        name = f"a{len(self.arrays)}"
        text = ", ".join(f"{value:.9e}f" for value in values.ravel())
        self.arrays.append(f"static float {name}[] = {{{text}}};")
        return name

    def output(self, *shape):
        """The name of an array of zeros, which is written out at the end."""
        name = self.array(np.zeros(shape, np.float32))
        self.outputs.append((name, shape))
        return name

    def address(self, kernel):
        """The address of a kernel."""
        return f"(long)&{self._declare(kernel)}"

    def call(self, kernel, *arguments):
        """Call a kernel with integers and names of arrays, and as its last argument a float where it takes one."""
        self.calls.append(f"{self._declare(kernel)}({', '.join(self._word(word) for word in arguments)});")

    def _declare(self, kernel):
        (symbol,) = [each for each in self.symbols if each.startswith(f"fastnn_{kernel}_float32_")]
        types = {"none": "void", "int64": "long", "float64": "double", "float32": "float"}
        returned, *taken = (types[name] for name in self.symbols[symbol])
        self.declared[kernel] = f'extern {returned} {kernel}({", ".join(taken)}) __asm__("{symbol}");'
        return kernel

    def _word(self, word):
        return f"(long){word}" if isinstance(word, str) and not word.startswith("(") else str(word)

    def run(self, made, folder):
        """What the output arrays hold, under the emulator."""
        source, program = folder / "program.c", folder / "program"
        writes = [f"fwrite({name}, 4, {np.prod(shape)}, stdout);" for name, shape in self.outputs]
        source.write_text(
            "\n".join(
                [
                    "#include <stdio.h>", "#include <stdlib.h>",
                    "extern void *(*fastnn_allocate_at)(unsigned long); extern void (*fastnn_free_at)(void *);",
                    *self.declared.values(), *self.arrays,
                    "int main(void) { fastnn_allocate_at = malloc; fastnn_free_at = free;",
                    *self.calls, *writes, "return 0; }",
                ]
            )
        )  # fmt: skip
        subprocess.run([COMPILER, "-O1", str(source), str(made), "-o", str(program)], check=True)
        command = [EMULATOR, "-L", LIBRARIES, "-E", f"LD_LIBRARY_PATH={made.parent}", str(program)]
        data = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float32)
        ends = np.cumsum([np.prod(shape) for _, shape in self.outputs])
        return [part.reshape(shape) for part, (_, shape) in zip(np.split(data, ends), self.outputs)]


SIZES = [(1, 1, 1), (1, 50, 10), (2, 3, 13), (7, 31, 24), (9, 64, 12), (50, 25, 11), (33, 130, 37)]


def test_linear(arm, tmp_path):
    """Every block of the micro-kernel, with a bias and without, ReLU within the product, and another activation."""
    made, symbols = arm
    program, expected = Program(symbols), []
    for m, k, n in SIZES:
        x, w, b = random_arrays(m + n, (m, k), (k, n), (n,), dtype="float32")
        x_at, w_at, b_at = map(program.array, (x, w, b))
        for bias, fused, activation in ((b_at, 1, "relu"), (0, 0, "identity"), (b_at, 0, "tanh")):
            f = program.address("tanh") if activation == "tanh" else 0
            y = program.output(m, n)
            program.call("linear", m, k, n, x_at, 4 * k, w_at, 4 * n, bias, fused, f, 0, 0, y, 4 * n, 0)
            expected.append((reference.linear(x, w, b if bias else None, activation=activation), k))
    for y, (right, k) in zip(program.run(made, tmp_path), expected, strict=True):
        assert_close(y, right, "float32", k)


def test_linear_backward(arm, tmp_path):
    made, symbols = arm
    program, expected = Program(symbols), []
    for m, k, n in SIZES:
        x, w, dy = random_arrays(m + n, (m, k), (k, n), (m, n), dtype="float32")
        y = reference.linear(x, w, activation="sigmoid").astype("float32")
        x_at, w_at, dy_at, y_at = map(program.array, (x, w, dy, y))
        dz, dx, dw, db = program.output(m, n), program.output(m, k), program.output(k, n), program.output(n)
        f = program.address("sigmoid_backward")
        program.call(
            "linear_backward", m, n, k, dy_at, 4 * n, y_at, 4 * n, f, x_at, 4 * k, w_at, 4 * n, dz, 4 * n,
            dx, 4 * k, dw, 4 * n, db,
        )  # fmt: skip
        right = reference.linear_backward(dy, x, w, y, activation="sigmoid")
        expected += [(dy * (y.astype(float) * (1 - y)), 1), *zip(right, (n, m, m))]
    for found, (right, depth) in zip(program.run(made, tmp_path), expected, strict=True):
        assert_close(found, right, "float32", depth)


def test_a_step_of_sgd(arm, tmp_path):
    made, symbols = arm
    program, expected = Program(symbols), []
    scalars = program.array(np.array([0.1], np.float64).view(np.float32))
    for rows, columns in ((1, 1), (3, 10), (31, 50)):
        w, g = random_arrays(rows, (rows, columns), (rows, columns), dtype="float32")
        target = program.output(rows, columns)
        w_at = program.array(w)
        program.calls.append(f"for (int i = 0; i < {w.size}; i++) {target}[i] = {w_at}[i];")
        program.call("sgd", rows, columns, target, 4 * columns, program.array(g), 4 * columns, 0, scalars, 0.0)
        expected.append(w - 0.1 * g.astype(float))
    for found, right in zip(program.run(made, tmp_path), expected, strict=True):
        assert_close(found, right, "float32", 1)
