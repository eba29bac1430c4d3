"""The kernels on the GPU: the public functions on arrays of numba-cuda, in C order or with padded rows.

They have the names and parameters of kernels.cpu and check nothing; `kernels` has them for any library's arrays. Here
they have a unit stride along the last axis; results are new arrays of the GPU unless the caller passes its own. All is
enqueued on the stream that the first array is bound to. Whatever returns no number returns at once: the GPU may still
be at work.

Importing this raises ImportError where the extra `cuda` is missing. See kernels.devices for what else it takes.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels import devices
from kernels.activations import ACTIVATIONS
from kernels.checks import Checks
from kernels.engine.codes import IDENTITY, SOFTMAX
from kernels.losses import LOSSES, LossChoice, loss_and_parameter

devices.check_extra()

from kernels.cuda import tuning  # noqa: E402
from kernels.cuda.arrays import foreign, memory  # noqa: E402
from kernels.cuda.arrays.foreign import on_its_stream  # noqa: E402
from kernels.cuda.driver import gpu  # noqa: E402
from kernels.cuda.driver.device_arrays import flat  # noqa: E402
from kernels.cuda.engine.job import Job, StepNumbers, numbers_of_steps  # noqa: E402
from kernels.cuda.engine.operations.gather import SOURCES, gather  # noqa: E402
from kernels.cuda.engine.operations.update import column_sums, kernel_of, sum_parts  # noqa: E402
from kernels.cuda.product import narrow  # noqa: E402
from kernels.cuda.product.gemm import LAYOUTS  # noqa: E402
from kernels.cuda.product.linear import linear as _linear  # noqa: E402
from kernels.cuda.product.products import make_job, multiply, row, sum_columns  # noqa: E402
from kernels.cuda.rowwise import elementwise  # noqa: E402
from kernels.cuda.rowwise.loss import losses, step_sums  # noqa: E402
from kernels.cuda.rowwise.loss import output as _output  # noqa: E402
from kernels.cuda.rowwise.row_reductions import row_blocks, row_threads  # noqa: E402
from kernels.optimizers.declaration import Update, known_updates  # noqa: E402

check = Checks(foreign)


@on_its_stream
def linear(
    x: Any,
    w: Any,
    b: Any = None,
    activation: str = "identity",
    *,
    out: Any = None,
    pre: Any = None,
) -> Any:
    """y (B, O) = f(x (B, I) @ w (I, O) + b (O,)); `pre` receives x @ w + b."""
    (m, k), n = x.shape, w.shape[1]
    y = memory.shaped((m, n), x.dtype) if out is None else out
    multiply("x @ w", m, n, k, x, w, y, b, pre, activation=ACTIVATIONS[activation])
    return y


@on_its_stream
def linear_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any = None,
    activation: str = "identity",
    *,
    pre: Any = None,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
    dz: Any = None,
) -> tuple[Any, Any, Any]:
    """(dx, dw, db) of y = f(x @ w + b) from dy; dz receives dy * f'(.)."""
    (m, k), n, dtype = x.shape, w.shape[1], x.dtype
    dx = memory.shaped((m, k), dtype) if dx is None else dx
    dw = memory.shaped((k, n), dtype) if dw is None else dw
    db = memory.shaped((n,), dtype) if db is None else db
    if dz is not None or not ACTIVATIONS[activation].is_identity:
        dz = activate_backward(dy, y, activation, pre=pre, out=dz)
    else:
        dz = dy
    multiply("dz @ w.T", m, k, n, dz, w, dx)
    multiply("x.T @ dz", k, n, m, x, dz, dw)
    sum_columns(dz, db)
    return dx, dw, db


@on_its_stream
def activate(z: Any, activation: str = "identity", *, out: Any = None) -> Any:
    """y (B, O) = f(z)."""
    y = memory.shaped(z.shape, z.dtype) if out is None else out
    kernel = elementwise.forward(z.dtype.name, ACTIVATIONS[activation])
    kernel(-(-z.size // tuning.THREADS), flat(z), flat(y), *z.shape, row(z), row(y))
    return y


@on_its_stream
def activate_backward(
    dy: Any,
    y: Any = None,
    activation: str = "identity",
    *,
    pre: Any = None,
    out: Any = None,
) -> Any:
    """dz (B, O) = dy * f'(.), from y or `pre`, as the slope reads."""
    dz = memory.shaped(dy.shape, dy.dtype) if out is None else out
    declared = ACTIVATIONS[activation]
    saved = pre if declared.slope_reads == "z" else y
    saved = dy if saved is None else saved
    kernel = elementwise.backward(dy.dtype.name, declared)
    kernel(
        -(-dy.size // tuning.THREADS), flat(dy), flat(saved), flat(dz),
        *dy.shape, row(dy), row(saved), row(dz),
    )  # fmt: skip
    return dz


@on_its_stream
def softmax(z: Any, *, out: Any = None) -> Any:
    """Probabilities (B, O) = exp(z) / sum exp(z), row by row."""
    y = memory.shaped(z.shape, z.dtype) if out is None else out
    if z.size == 0:
        return y
    rows, columns = z.shape
    kernel = _output(z.dtype.name, row_threads(columns))
    kernel(
        row_blocks(rows, columns),
        flat(z),
        flat(y),
        SOFTMAX,
        rows,
        columns,
        0,
        row(z),
        0,
        row(y),
    )
    return y


@on_its_stream
def loss_and_gradient(
    loss: LossChoice, z: Any, target: Any, weight: Any = None, *, dz: Any = None
) -> tuple[float, Any]:
    """(loss, dz) of z (B, O) and targets (B, O), or labels (B,) where the loss takes them."""
    declared, parameter = loss_and_parameter(loss)
    (rows, columns), dtype = z.shape, z.dtype
    dz = memory.shaped(z.shape, dtype) if dz is None else dz
    scale = 1.0
    if declared.averaged:
        mass = rows if weight is None else float(memory.read(weight).sum(dtype=np.float64))
        scale = 1.0 / mass if mass > 0 else 0.0
    labels = target.ndim == 1
    job = make_job(
        Job(
            total=rows, batch=rows, columns=columns, z_row=row(z), dz_row=row(dz), weighted=weight is not None,
            output=IDENTITY, target_row=0 if labels else row(target),
        )
    )  # fmt: skip
    numbers = numbers_of_steps(1, StepNumbers(scale=scale, parameter=parameter)).reshape(-1).astype(dtype)
    factors, results, sums = memory.copied(numbers), memory.empty(rows, dtype), memory.empty(2, dtype)
    losses[declared.name](dtype.name, row_threads(columns), "int64" if labels else SOURCES[target.dtype], labels)(
        row_blocks(rows, columns), flat(z), flat(dz), flat(target), job,
        factors if weight is None else flat(weight), factors, results, job,
    )  # fmt: skip
    step_sums(dtype.name, tuning.THREADS)(1, results, results, factors, sums, job)
    return float(memory.read(sums)[0]), dz


@on_its_stream
def optimizer_step(update: Update, w: Any, dw: Any, state: Sequence[Any], scalars: np.ndarray) -> None:
    """One step of an optimiser on w (rows, columns), in place; on the arrays of its slots too, whose rows lie like w's.

    scalars: float64 (n,), the update's.
    """
    rows, columns = w.shape
    numbers = numbers_of_steps(1, StepNumbers(), scalars[np.newaxis])
    job = Job(w_rows=rows, w_columns=columns, w_row=row(w), g_row=row(dw), numbers=numbers.size)
    kernel_of(update, w.dtype.name)(
        -(-w.size // tuning.THREADS), flat(w), flat(dw), *map(flat, state),
        memory.copied(numbers.reshape(-1).astype(w.dtype)), make_job(job),
    )  # fmt: skip


def info() -> dict[str, str]:
    """What the kernels run on: GPU, compute capability, multiprocessors, memory, versions."""
    return gpu.info()


def warmup(dtypes: Sequence[str] = ("float32",)) -> float:
    """Compile, or load from the cache, what networks with ReLU run; returns the seconds it took.

    Other activations, and data and targets of other types than the network's, take kernels of their own.
    """
    start, relu = time.perf_counter(), ACTIVATIONS["relu"]
    for dtype in dtypes:
        precisions = devices.PRECISIONS[1:] if dtype == "float32" and devices.tensor_cores() else ()
        kernels = [
            _linear(dtype, tile, layout, True, relu, layout == "dz @ w.T")
            for arithmetic in (dtype, *precisions)
            for tile in tuning.TILES[arithmetic]
            for layout in LAYOUTS
        ]
        for tile in tuning.NARROW_TILES[dtype]:
            kernels += [narrow.forward(dtype, tile, relu, dtype), narrow.backward(dtype, tile, relu)]
        kernels += [step_sums(dtype, tuning.THREADS), column_sums(dtype, *tuning.COLUMN_LANES), sum_parts(dtype)]
        kernels += [kernel_of(update, dtype) for update in known_updates()]
        for threads in (1, tuning.ROW_THREADS):
            kernels += [_output(dtype, threads)]
            kernels += [family(dtype, threads, dtype, False) for family in losses.values()]
            kernels += [losses[name](dtype, threads, "int64", True) for name in LOSSES if LOSSES[name].targets.labels]
        kernels += [gather(dtype, dtype)]
        for kernel in kernels:
            kernel.load()
    return time.perf_counter() - start
