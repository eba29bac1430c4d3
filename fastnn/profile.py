"""Where the time of a training step goes: each phase beside what the machine could do at best."""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.inputs.arguments import check_flags, checked_optimizer
from fastnn.inputs.data import Data
from fastnn.network.loading import load_kernels
from fastnn.optimizers import Optimizer
from fastnn.training import progress as reports
from fastnn.training import row_order
from fastnn.training.learner import Learner
from fastnn.training.optimizer_state import Memory
from kernels import backends
from kernels.declarations.ranges import check_count, check_number
from kernels.engine.requests import Batches
from kernels.layout import aligned_copy, aligned_zeros
from kernels.losses import LossChoice

SECONDS = 1.0  # of measuring, where a step is short enough for LEAST_ROUNDS
ROUND_SECONDS = 0.05
TRIAL_SECONDS = 0.2  # at most, to find how many threads are best
LEAST_ROUNDS = 5
RESOLUTION = 1e-9  # a counter may be too coarse to see a phase at all

COLUMNS = ["layer", "phase", "operations", "bytes", "time", "of step", "rate", "of roofline", "bound"]
WORDS = (1, 8)  # columns that hold words: to the left


@dataclass(frozen=True)
class Row:
    """One phase of one layer, in an average step.

    Parameters
    ----------
    layer : int
        From 1, as in `summary`.
    phase : str
        gather (a batch's rows of X, where they are not read in place), forward (x @ w + b, with ReLU), activation (with
        dropout), loss (with its gradient), dx (dz @ w.T), derivative (of the activation, with dropout), dw, sum (of the
        shares of dw that groups of rows leave, in large batches), clip (of the whole gradient, as layer 1's), update or
        transpose (w.T for the next step, where it is kept).
    operations : int
        Floating-point operations.
    bytes : int
        Bytes read and written, each operand once.
    seconds : float
        Threads that work side by side count once.
    roofline : float
        The least time that the machine could take, over `seconds`. It is more than 1 where operands are still in a
        nearer cache than a step's bytes fit in.
    bound : str
        "compute" or "memory", by what that least time is spent on.
    """

    layer: int
    phase: str
    operations: int
    bytes: int
    seconds: float
    roofline: float
    bound: str


@dataclass(frozen=True)
class Profile:
    """What `MLP.profile` found. `str()` makes a table of it.

    Parameters
    ----------
    rows : tuple of Row
        By layer and phase.
    seconds : float
        An average step's time.
    batch_size : int
        The rows of a step.
    threads : int
        The threads that it ran on.
    flops : float
        Operations a second in multiply-adds on registers, by all threads together.
    bandwidth : float
        Bytes a second through as much memory as a step touches, by all threads together. It is that of the cache which
        holds them.
    touched : int
        The bytes that a step touches.
    product_flops : float
        Operations a second in products of large layers, where those are made of bfloat16 numbers, by all threads
        together. 0 where none are.
    """

    rows: tuple[Row, ...]
    seconds: float
    batch_size: int
    threads: int
    flops: float
    bandwidth: float
    touched: int
    product_flops: float = 0.0

    @property
    def limiting(self) -> Row:
        """The phase that takes the longest."""
        return max(self.rows, key=lambda row: row.seconds)

    @property
    def waiting(self) -> float:
        """Seconds of a step that are no phase's: threads wait for each other, jobs start, tiles are claimed."""
        return self.seconds - sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        lines = [COLUMNS] + [
            [
                str(row.layer), row.phase, _scaled(row.operations), _scaled(row.bytes, "B"), _scaled(row.seconds, "s"),
                f"{row.seconds / self.seconds:.1%}", _rate(row), f"{row.roofline:.0%}", row.bound,
            ]
            for row in self.rows
        ]  # fmt: skip
        lines.append(["", "waiting", "", "", _scaled(self.waiting, "s"), f"{self.waiting / self.seconds:.1%}", *"   "])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        products = f"{_scaled(self.product_flops, 'FLOP/s')} in large products, " if self.product_flops else ""
        most, threads = self.limiting, f"{self.threads} thread{'s' * (self.threads > 1)}"
        waits = f"waiting, {self.waiting / self.seconds:.0%} of a step, then " if self.waiting > most.seconds else ""
        return "\n".join(
            [
                f"a step on {self.batch_size} rows takes {_scaled(self.seconds, 's')} on {threads}",
                *(_aligned(line, widths) for line in lines),
                f"roofline: {_scaled(self.flops, 'FLOP/s')}, {products}{_scaled(self.bandwidth, 'B/s')} on the "
                f"{_scaled(self.touched, 'B')} that a step touches",
                f"most of the time: {waits}{most.phase} of layer {most.layer}, {most.seconds / self.seconds:.0%} of a "
                f"step, at {most.roofline:.0%} of its {most.bound} roofline",
            ]
        )


def profile(
    model: Any,
    X: Any,
    y: Any,
    *,
    batch_size: int,
    optimizer: Optimizer | str,
    loss: LossChoice | None,
    l2: float,
    shuffle: bool,
    sample_weight: Any,
    class_weight: Any,
) -> Profile:
    """See MLP.profile."""
    if model.device != "cpu":
        raise ValueError(f'profile needs a model with device="cpu", got "{model.device}"')
    data = Data.checked(model, X, y, loss, sample_weight, class_weight)
    check_count("batch_size", batch_size)
    check_flags(shuffle, False)
    check_number("l2", l2, 0)
    batch_size = min(batch_size, len(data.X))
    data = _whole_batches(data, batch_size)
    n = len(data.X)
    optimizer = checked_optimizer(optimizer, n // batch_size)
    order = None
    if shuffle and batch_size < n:
        order = row_order.numbered(n)
        row_order.shuffle(np.random.default_rng(0), order)

    instruments = backends.instruments(model.device)
    engine = instruments.TimedEngine(model.network, aligned_copy(model.parameters), model.threads, model.precision)
    load_kernels(engine, reports.line, data.needs(optimizer, batch_size, l2))
    memory = Memory.fresh(model, optimizer)
    memory.noise = dataclasses.replace(memory.noise)
    learner = Learner(engine, data, memory, batch_size, l2)
    slices = (n_steps for _ in itertools.count() for n_steps, _ in learner.epoch(order))
    next(slices)  # makes the buffers
    choice, end = engine.thread_choice(batch_size), time.perf_counter() + TRIAL_SECONDS
    while not choice.settled and time.perf_counter() < end:
        next(slices)
    choice.stay()
    threads = choice.threads
    touched = engine.touched_bytes + sum(array.nbytes for array in memory.arrays)
    seconds, times, flops, product_flops, bandwidth = _measure(instruments, engine, slices, threads, touched)
    mass = data.mass(order, batch_size)[:1]
    request = learner.request(
        Batches(order, 0, batch_size, batch_size), data.scales(mass), data.decay(l2, mass), optimizer.rates(0, 1)
    )
    counts: dict[tuple[int, str], tuple[int, int]] = instruments.step_counts(engine, request)
    rows = [
        _row(
            n + 1, phase, *counts[n, phase], float(times[n, column]),
            product_flops if phase in ("forward", "dx", "dw") and engine.product(n) in instruments.PRODUCTS else flops,
            bandwidth,
        )
        for n in range(len(times))
        for column, phase in enumerate(instruments.PHASES)
        if (n, phase) in counts
    ]  # fmt: skip
    return Profile(tuple(rows), seconds, batch_size, threads, flops, bandwidth, touched, product_flops)


def _row(layer: int, phase: str, operations: int, n_bytes: int, seconds: float, flops: float, bandwidth: float) -> Row:
    seconds = max(seconds, RESOLUTION)
    by_operations, by_bytes = operations / flops, n_bytes / bandwidth
    bound = "compute" if by_operations > by_bytes else "memory"
    return Row(layer, phase, operations, n_bytes, seconds, max(by_operations, by_bytes) / seconds, bound)


def _whole_batches(data: Data, batch_size: int) -> Data:
    """The data without the rows of a last, smaller batch: all steps are to be alike."""
    n = len(data.X) // batch_size * batch_size
    weight = None if data.weight is None else data.weight[:n]
    target = dataclasses.replace(data.target, values=data.target.values[:n])
    return dataclasses.replace(data, X=data.X[:n], target=target, weight=weight)


def _measure(
    instruments: Any, engine: Any, slices: Iterator[int], threads: int, touched: int
) -> tuple[float, np.ndarray, float, float, float]:
    """Seconds of a step, those of its phases (layers, phases), and the peaks: operations, those of large products,
    and bytes a second.

    Steps and peaks are measured in turn, for a machine's speed drifts. Of the steps' rounds, that of median time
    counts, with all its phases; of the peaks their medians.
    """
    buffers = [aligned_zeros(max(touched // threads, instruments.LEAST_BUFFER), np.uint8) for _ in range(threads)]
    rounds: list[tuple[float, np.ndarray]] = []
    products = {instruments.PRODUCTS.get(engine.product(n), 0) for n in range(len(engine.layout.stages))}
    each = max(products)  # of one kind, besides multiply-adds
    flops: list[float] = []
    product_flops = [] if each else [0.0]
    bandwidths: list[float] = []
    first_tick, start = instruments.now["float32"](), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        while len(rounds) < LEAST_ROUNDS or time.perf_counter() - start < SECONDS:
            n_steps, seconds, ticks = 0, engine.seconds, engine.ticks
            while engine.seconds - seconds < ROUND_SECONDS:
                n_steps += next(slices)
            rounds.append(((engine.seconds - seconds) / n_steps, (engine.ticks - ticks) / n_steps))
            flops.append(sum(pool.map(lambda _: instruments.flops(engine.dtype.name), buffers)))
            if each:
                product_flops.append(sum(pool.map(lambda _: instruments.bf16_flops() / each, buffers)))
            bandwidths.append(sum(pool.map(instruments.bandwidth, buffers)))
    per_tick = (time.perf_counter() - start) / (instruments.now["float32"]() - first_tick)
    seconds, ticks = sorted(rounds, key=lambda one: one[0])[len(rounds) // 2]
    peaks = (statistics.median(found) for found in (flops, product_flops, bandwidths))
    return seconds, ticks * (per_tick / threads), *peaks


_PREFIXES = {1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1.0: "", 1e-3: "m", 1e-6: "u"}


def _scaled(value: float, unit: str = "") -> str:
    """A number in three digits and a prefix: 1.52e-5 s is 15.2 us."""
    value = float(f"{value:.3g}")
    if value == 0:
        return f"0 {unit}".rstrip()
    factor = next((factor for factor in _PREFIXES if value >= factor), 1e-6)
    return f"{value / factor:#.3g}".rstrip(".") + f" {_PREFIXES[factor]}{unit}".rstrip()


def _rate(row: Row) -> str:
    """What a phase reaches of what bounds it."""
    if row.bound == "compute":
        return _scaled(row.operations / row.seconds, "FLOP/s")
    return _scaled(row.bytes / row.seconds, "B/s")


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """A line of the table: numbers to the right, words to the left."""
    pairs = enumerate(zip(cells, widths, strict=True))
    return "  ".join(cell.ljust(width) if n in WORDS else cell.rjust(width) for n, (cell, width) in pairs).rstrip()
