"""What the public functions enqueue for arrays of their own sizes and strides: products, sums of columns."""

import functools
from typing import Any

import numpy as np

from kernels.activations import ACTIVATIONS, Activation
from kernels.cuda import tuning
from kernels.cuda.arrays import memory
from kernels.cuda.compiler.records import Record, words
from kernels.cuda.driver import gpu
from kernels.cuda.driver.device_arrays import address, flat
from kernels.cuda.engine.job import PRODUCTS, Job, Product
from kernels.cuda.engine.launches import column_blocks
from kernels.cuda.engine.operations.update import column_sums, sum_parts
from kernels.cuda.ir.ptx import VECTOR_BYTES
from kernels.cuda.product.gemm import arithmetic, chunk_for, parts_for, tile_for
from kernels.cuda.product.linear import compiled, linear


def multiply(
    layout: str, m: int, n: int, k: int, a: Any, b: Any, c: Any, bias: Any = None, pre: Any = None,
    *, activation: Activation = ACTIVATIONS["identity"], precision: str = "float32",
) -> None:  # fmt: skip
    """c (m, n) = f(the product of a and b + bias). precision: as a network's layers have it."""
    if m == 0 or n == 0:
        return
    kind = arithmetic(c.dtype, precision, *((m, n) if layout == "x.T @ dz" else (n, k)))
    parts = parts_for(m, n, k, kind) if layout == "x.T @ dz" else 1
    result = c if parts == 1 else memory.shaped((parts * m, n), c.dtype)
    tile = tile_for(m, n, kind, gpu.processors(), parts)
    written = result if pre is None else pre
    operands = [a, b, result, written] if bias is None else [a, b, result, written, bias]
    aligned = all(
        address(array) % VECTOR_BYTES == 0 and row(array) * array.dtype.itemsize % VECTOR_BYTES == 0
        for array in operands
    )
    product = Product(
        m=m, n=n, k=k, a_row=row(a), b_row=row(b), c_row=row(result),
        biased=bias is not None, with_extra=pre is not None, extra_row=row(written),
        active=not activation.is_identity, chunk=chunk_for(k, parts), spacing=m * n,
    )  # fmt: skip
    kernel = linear(a.dtype.name, tile, layout, aligned, compiled(activation), False)
    kernel(
        (tile.blocks(m, n), parts), flat(a), flat(b), flat(result),
        flat(result if bias is None else bias), flat(written), make_job(Job(), product),
        PRODUCTS,
    )  # fmt: skip
    if parts > 1:
        _add(result, c, parts, m, n)


def sum_columns(dz: Any, db: Any) -> None:
    """db (n,) = the sums of the columns of dz (m, n)."""
    m, n = dz.shape
    if n == 0:
        return
    parts = parts_for(1, n, m, dz.dtype.name)
    result = db if parts == 1 else memory.empty(parts * n, dz.dtype)
    product = Product(n=n, b_row=row(dz), with_db=1, chunk=chunk_for(m, parts), spacing=n)
    job = make_job(Job(total=m, batch=m), product)
    kernel = column_sums(dz.dtype.name, *tuning.COLUMN_LANES)
    kernel((*column_blocks((m, n)), parts), flat(dz), flat(result), job, PRODUCTS)
    if parts > 1:
        _add(result, db, parts, 1, n)


def _add(parts: Any, c: Any, count: int, rows: int, columns: int) -> None:
    """c (rows, columns) = the sum of `count` parts of that size."""
    kernel = sum_parts(c.dtype.name)
    kernel(
        -(-c.size // tuning.THREADS),
        flat(parts),
        flat(c),
        count,
        rows * columns,
        rows,
        columns,
        row(c),
    )


def make_job(*records: Record) -> Any:
    """A job of a header and maybe a product, on the current GPU; the same sizes and strides come again and again."""
    return _make_job(tuple(words(*records)), gpu.device_number())


@functools.lru_cache(maxsize=256)
def _make_job(of_records: tuple[int, ...], device: int) -> Any:
    placed = memory.copied(np.array(of_records, np.int64))
    gpu.synchronize()  # whichever stream uses it next
    return placed


def row(array: Any) -> int:
    """The row stride in elements; 0 for a single row."""
    return 0 if array.ndim == 1 or len(array) == 1 else int(array.strides[0] // array.dtype.itemsize)
