"""The kernels on the CPU: the public functions on NumPy arrays that kernels.checks has seen. They check nothing."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kernels import arrays, deferred
from kernels.activations import ACTIVATIONS
from kernels.checks import Checks
from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.shipped import library as _shipped
from kernels.cpu.engine.layers import dense as _dense
from kernels.cpu.engine.layers.dropout import dropout as _dropout
from kernels.cpu.engine.operations.clip import clip as _clip
from kernels.cpu.engine.operations.gather import gathers as _gathers
from kernels.cpu.engine.operations.update import kernels_of as _kernels_of
from kernels.cpu.engine.schedule import OPERATIONS as _OPERATIONS
from kernels.cpu.engine.scheduler import run_job as _run_job
from kernels.cpu.ir.instruction_sets import bf16_unit, chosen
from kernels.cpu.ir.transpose import transpose as _transpose
from kernels.cpu.product import linear as _linear
from kernels.cpu.product import tasks as _tasks
from kernels.cpu.product.gemm_bf16 import product_for as _product_for
from kernels.cpu.product.thread_count import threads_for as _threads_for
from kernels.cpu.rowwise import elementwise as _elementwise
from kernels.cpu.rowwise.loss import losses as _losses
from kernels.cpu.rowwise.loss import output as _output
from kernels.cpu.threads import workers as _workers
from kernels.engine.codes import IDENTITY, NO_METRIC, SOFTMAX
from kernels.layout import address, aligned_empty
from kernels.losses import LossChoice, loss_and_parameter
from kernels.optimizers.declaration import Update
from kernels.optimizers.declaration import known_updates as _known_updates

_cache = deferred.module("kernels.cpu.compiler.cache")
_compiling = deferred.module("kernels.cpu.compiler.compiling")
check = Checks(arrays)


def _parts(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the rows that one call goes over at a time."""
    most = max(1, tuning.ELEMENTS_A_CALL // max(1, columns))
    return ((first, min(most, rows - first)) for first in range(0, rows, most))


def _by_rows(kernel: jit.Kernel, matrices: Sequence[np.ndarray], *before: Any) -> None:
    """kernel(*before, rows, columns, address and stride of each matrix), for some of the rows at a time."""
    rows, columns = matrices[0].shape
    for first, count in _parts(rows, columns):
        places = [place for m in matrices for place in (address(m) + first * m.strides[0], m.strides[0])]
        kernel(*before, count, columns, *places)


def linear(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    activation: str = "identity",
    *,
    out: np.ndarray | None = None,
    pre: np.ndarray | None = None,
) -> np.ndarray:
    """y (B, O) = f(x (B, I) @ w (I, O) + b (O,)); `pre` receives x @ w + b."""
    (m, k), n = x.shape, w.shape[1]
    y = aligned_empty((m, n), x.dtype) if out is None else out
    declared = ACTIVATIONS[activation]
    in_product = declared.floor is not None and pre is None
    fused = in_product and declared.is_relu
    f = 0 if in_product else _elementwise.forward(declared)[x.dtype].address
    b_at = 0 if b is None else address(b)
    threads = _threads_for(m * n * k)
    if threads == 1 and m * n * k <= tuning.LONG_PRODUCT:
        z_at, ldz = (0, 0) if pre is None else (address(pre), pre.strides[0])
        _linear.linear[x.dtype](
            m, k, n, address(x), x.strides[0], address(w), w.strides[0], b_at, fused, f, z_at, ldz,
            address(y), y.strides[0], 0,
        )  # fmt: skip
        return y
    z, after = (y, None) if pre is None else (pre, y)
    tasks = _tasks.product_tasks((m, n, k), x, w, z, threads, bias=b_at, relu=fused, activation=f, y=after)
    _tasks.run(x.dtype, tasks, threads, m * n * k)
    return y


def linear_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    y: np.ndarray | None = None,
    activation: str = "identity",
    *,
    pre: np.ndarray | None = None,
    dx: np.ndarray | None = None,
    dw: np.ndarray | None = None,
    db: np.ndarray | None = None,
    dz: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dx, dw, db) of y = f(x @ w + b) from dy; dz receives dy * f'(.)."""
    (m, k), n, dtype = x.shape, w.shape[1], x.dtype
    dx = aligned_empty((m, k), dtype) if dx is None else dx
    dw = aligned_empty((k, n), dtype) if dw is None else dw
    db = aligned_empty((n,), dtype) if db is None else db
    if dz is not None or not ACTIVATIONS[activation].is_identity:
        dz = activate_backward(dy, y, activation, pre=pre, out=dz)
    else:
        dz = dy
    threads = _threads_for(2 * m * n * k)
    tasks = _tasks.product_tasks((m, k, n), dz, w, dx, threads, b_transposed=True)
    transposed_dw = None
    if _linear.transposed_dw_pays(m, k, n, chosen().lanes(dtype.itemsize)):
        transposed_dw = aligned_empty((n, k), dtype)
        tasks += _tasks.product_tasks((n, k, m), dz, x, transposed_dw, threads, a_transposed=True)
    else:
        tasks += _tasks.product_tasks((k, n, m), x, dz, dw, threads, a_transposed=True)
    tasks.append(_tasks.column_sums(dz, db))
    _tasks.run(dtype, tasks, threads, 2 * m * n * k)
    if transposed_dw is not None:
        _transpose[dtype](n, k, address(transposed_dw), transposed_dw.strides[0], address(dw), dw.strides[0])
    return dx, dw, db


def activate(z: np.ndarray, activation: str = "identity", *, out: np.ndarray | None = None) -> np.ndarray:
    """y (B, O) = f(z)."""
    y = aligned_empty(z.shape, z.dtype) if out is None else out
    _by_rows(_elementwise.forward(ACTIVATIONS[activation])[z.dtype], (z, y))
    return y


def activate_backward(
    dy: np.ndarray,
    y: np.ndarray | None = None,
    activation: str = "identity",
    *,
    pre: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """dz (B, O) = dy * f'(.), from y or `pre`, as the slope reads."""
    dz = aligned_empty(dy.shape, dy.dtype) if out is None else out
    declared = ACTIVATIONS[activation]
    saved = pre if declared.slope_reads == "z" else y
    saved = dy if saved is None else saved
    _by_rows(_elementwise.backward(declared)[dy.dtype], (dy, saved, dz))
    return dz


def softmax(z: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Probabilities (B, O) = exp(z) / sum exp(z), row by row."""
    y = aligned_empty(z.shape, z.dtype) if out is None else out
    _by_rows(_output[z.dtype], (z, y), SOFTMAX)
    return y


def loss_and_gradient(
    loss: LossChoice,
    z: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    dz: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """(loss, dz) of z (B, O) and targets (B, O), or labels (B,) where the loss takes them."""
    declared, parameter = loss_and_parameter(loss)
    kernel, scale = _losses[declared.name][z.dtype], 1.0
    if declared.averaged:
        # one after the other, as inside a user's @njit
        mass = len(z) if weight is None else float(np.add.accumulate(weight, dtype=np.float64)[-1])
        scale = 1.0 / mass if mass > 0 else 0.0
    dz = aligned_empty(z.shape, z.dtype) if dz is None else dz
    columns, total = z.shape[1], 0.0
    for first, count in _parts(*z.shape):
        total += kernel(
            count, columns, IDENTITY, address(z) + first * z.strides[0], z.strides[0],
            address(target) + first * target.strides[0], target.strides[0], target.ndim == 1,
            0 if weight is None else address(weight) + first * weight.itemsize, scale,
            address(dz) + first * dz.strides[0], dz.strides[0], NO_METRIC, 0, 0, parameter,
        )  # fmt: skip
    return scale * total if scale else 0.0, dz


def optimizer_step(
    update: Update, w: np.ndarray, dw: np.ndarray, state: Sequence[np.ndarray], scalars: np.ndarray
) -> None:
    """One step of an optimiser on w (rows, columns), in place; on the arrays of its slots too, whose rows lie like w's.

    scalars: float64 (n,), the update's.
    """
    (rows, columns), ldw, ldg, size = w.shape, w.strides[0], dw.strides[0], w.itemsize
    kernel, w_at, dw_at = _kernels_of(update)[w.dtype], address(w), address(dw)
    slots = np.array([address(array) - w_at for array in state], np.int64)
    slots_at, scalars_at = address(slots), address(scalars)
    for i, count in _parts(rows, columns):
        for j in range(0, columns, tuning.ELEMENTS_A_CALL):
            kernel(
                count, min(tuning.ELEMENTS_A_CALL, columns - j), w_at + i * ldw + j * size, ldw,
                dw_at + i * ldg + j * size, ldg, slots_at, scalars_at, 0.0,
            )  # fmt: skip


def info() -> dict[str, str]:
    """What the kernels run on: where they come from, instruction set, bfloat16 unit, threads, cache folder."""
    isa, (shipped, why) = chosen(), _shipped.found()
    triple, cpu, _ = _compiling.target_machine()
    return {
        "kernels": why if shipped is None else f"{shipped.path}: {why}",
        "cpu": f"{cpu} ({triple})",
        "instruction set": isa.name,
        "vector width": f"{8 * isa.register_bytes} bits, {isa.lanes(4)} float32 lanes",
        "micro-kernel": f"{isa.mr} rows x {isa.nv} vectors",
        "bfloat16": {"amx": "AMX", "avx512": "AVX512-BF16", "": "none"}[bf16_unit()],
        "threads": str(_workers.default_threads()),
        "threading layer": "fastnn's own workers (Numba's layers are not used)",
        "cache": _cache.cache_folder(),
    }


def multiplies_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers."""
    return bool(bf16_unit())


def warmup(dtypes: Sequence[str] = ("float32",)) -> float:
    """Compile, or load from the cache, every kernel for these dtypes; returns the seconds it took."""
    start = time.perf_counter()
    for dtype in dtypes:
        _run_job[dtype].load()
        for family in (*_OPERATIONS, _dense.forward, _dense.backward, _dense.gradient):
            family[dtype].load()
        for family in (_linear.linear, _linear.linear_backward, _tasks.products):
            family[dtype].load()
        for name in ACTIVATIONS:
            for family_of in (_elementwise.forward, _elementwise.backward):
                family_of(ACTIVATIONS[name])[dtype].load()
        for families in (_losses, _gathers):
            for family in families.values():
                family[dtype].load()
        for update in _known_updates():
            _kernels_of(update)[dtype].load()
        for family in (_output, _dropout, _clip, _transpose):
            family[dtype].load()
        for precision in ("float32", "bf16") if bf16_unit() and dtype == "float32" else ():
            _product_for(precision, np.dtype(dtype), sys.maxsize, sys.maxsize, sys.maxsize)[dtype].load()
    _workers.load()
    return time.perf_counter() - start
