"""Look for cliffs: sizes at which a training step suddenly costs more than at the size beside it.

    python asv_benchmarks/cliffs.py --json cliffs.json --plot cliffs.png
    python asv_benchmarks/cliffs.py --widths 60-70 --batches 1,32 --threads 1      # a closer look
    python asv_benchmarks/cliffs.py --layers 784,W,10 --optimizer adam --dtype float64         # other networks
    python asv_benchmarks/cliffs.py --predict                                      # running them instead

Steps of networks W-W-W-10 (ReLU, softmax, SGD) are timed along lines: over the widths at a few batches, and over the
batches at a few widths, on one thread, two and so on to all. A step that is larger than its neighbour may take longer
by as much as its padded work is more, one that is smaller may not take longer at all; beyond LIMIT times that it is a
cliff. Every point is measured in several rounds, in random order, and its median counts; what looks like a cliff then
is measured again with its neighbour in turn, and is one if the median of the ratios says so in each of several passes:
other programs disturb one pass, seldom all.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from compare import machine

import fastnn
from fastnn import optimizers
from kernels.cpu.ir.instruction_sets import chosen
from kernels.engine.codes import ROW_NUMBER
from kernels.engine.requests import Batches, Descent, Objective, TrainRequest
from kernels.optimizers import known

LIMIT = 1.25
SECONDS = 0.0006  # of one sample: most are shorter than what a program is left alone for
SAMPLES = 5  # of which the shortest counts
PASSES = 3
# A block with fewer multiply-adds in flight waits for their latency: see kernels.cpu.ir.simd
LEAST_IN_FLIGHT = 8


@dataclass(frozen=True)
class Family:
    """Networks that differ in a width, 0 in `layers`, and what is done with them."""

    layers: tuple[int, ...] = (0, 0, 0, 10)
    dtype: str = "float32"
    optimizer: str = "sgd"
    predict: bool = False


@dataclass(frozen=True)
class Point:
    """One kind of step; threads: the most that run it."""

    width: int
    batch: int
    threads: int
    family: Family = Family()

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(width or self.width for width in self.family.layers)

    @property
    def operations(self) -> int:
        """Floating-point operations of the products, without padding."""
        products = [a * b for a, b in pairwise(self.layers)]
        return 2 * self.batch * (sum(products) if self.family.predict else 3 * sum(products) - products[0])

    @property
    def padded(self) -> int:
        """Multiply-adds of the products as their blocks make them, on one thread."""
        total, product = 0, partial(padded_product, itemsize=np.dtype(self.family.dtype).itemsize)
        for n, (i, o) in enumerate(pairwise(self.layers)):
            total += product(self.batch, o, i)
            if not self.family.predict:
                total += product(i, o, self.batch) + (product(self.batch, i, o) if n > 0 else 0)
        return total


def padded_product(m: int, n: int, k: int, itemsize: int = 4) -> int:
    """Multiply-adds that the blocks of an (m, k) @ (k, n) product cost, of float32 or float64.

    Columns fill whole vectors, NV of them a block; rows are split evenly over blocks of at most MR.
    """
    isa = chosen()
    lanes, blocks = isa.lanes(itemsize), -(-m // isa.mr)
    vectors = -(-n // lanes)
    short, taller = divmod(m, blocks)
    heights = {short: blocks - taller, short + 1: taller}
    panels = {isa.nv: vectors // isa.nv, vectors % isa.nv: 1}
    in_flight = sum(
        rows * columns * max(height * width, LEAST_IN_FLIGHT)
        for height, rows in heights.items()
        for width, columns in panels.items()
        if width > 0
    )
    return in_flight * lanes * k


def measured(point: Point) -> float:
    """Seconds of one step: the least of SAMPLES, each of as many steps as fit SECONDS."""
    family, layers = point.family, point.layers
    model = fastnn.MLP(layers, threads=point.threads, device="cpu", dtype=family.dtype, seed=0)
    engine = model.engine()
    X = np.random.default_rng(0).standard_normal((point.batch, layers[0])).astype(family.dtype)
    y = np.arange(point.batch) % layers[-1]
    optimizer = replace(optimizers.get(family.optimizer), learning_rate=1e-4)
    state = [np.zeros_like(model.parameters) for _ in optimizer.slots]

    def seconds_of(steps: int) -> float:
        order = np.tile(np.arange(point.batch, dtype=ROW_NUMBER), steps)
        scalars, scales = optimizer.scalars(0, optimizer.rates(0, steps)), np.full(steps, 1 / point.batch)
        start = time.perf_counter()
        if family.predict:
            for _ in range(steps):
                model.predict(X)
        else:
            engine.train(
                TrainRequest(
                    X, y, None, Batches(order, 0, len(order), point.batch),
                    Objective("softmax_cross_entropy", None, scales), Descent(optimizer.update, state, scalars),
                )
            )  # fmt: skip
        return time.perf_counter() - start

    seconds_of(1)  # makes the buffers
    steps = min(max(1, round(SECONDS / seconds_of(2) * 2)), 10_000)
    choice = engine.thread_choice(point.batch)
    while not family.predict and not choice.settled:
        seconds_of(steps)
    return min(seconds_of(steps) for _ in range(SAMPLES)) / steps


@dataclass(frozen=True)
class Cliff:
    """Two neighbours of which one takes `excess` times as long as it may; seconds of each when measured in turn."""

    small: Point
    large: Point
    excess: float
    small_seconds: float
    large_seconds: float

    def __str__(self) -> str:
        what = {"width": (self.small.width, self.large.width), "batch": (self.small.batch, self.large.batch)}
        what["threads"] = self.small.threads, self.large.threads
        changed = next(f"{name} {a} -> {b}" for name, (a, b) in what.items() if a != b)
        same = ", ".join(f"{name} {a}" for name, (a, b) in what.items() if a == b)
        times = f"{1e6 * self.small_seconds:.4g} -> {1e6 * self.large_seconds:.4g} us"
        work = f"work x{self.large.operations / self.small.operations:.3g}"
        padded = f"padded x{padding(self.small, self.large):.3g}"
        return f"{changed} ({same}): {times}, {work}, {padded}: {self.excess:.2f} times what it may"


def padding(small: Point, large: Point) -> float:
    """How many times as long the larger of two neighbours may take."""
    return max(1.0, large.padded / small.padded)


def excess(small: Point, large: Point, ratio: float) -> float:
    """How many times as long as it may the worse of two neighbours takes; ratio: large's time over small's.

    The larger one may take longer by its padded work, the smaller one not at all. More threads may not take longer.
    """
    if small.threads != large.threads:
        return ratio
    return max(ratio / padding(small, large), 1 / ratio)


def scan(points: Sequence[Point], rounds: int) -> dict[Point, float]:
    """The median time of a step at each point."""
    seconds: dict[Point, list[float]] = {point: [] for point in points}
    shuffled = list(points)
    for n in range(rounds):
        random.Random(n).shuffle(shuffled)
        for point in shuffled:
            seconds[point].append(measured(point))
        print(f"  round {n + 1} of {rounds}, {len(points)} points", flush=True)
    return {point: statistics.median(values) for point, values in seconds.items()}


def confirmed(pairs: Iterable[tuple[Point, Point]], repeats: int) -> list[Cliff]:
    """The pairs that are cliffs when they are measured in turn, the worst first."""
    cliffs = []
    for small, large in pairs:
        times = [(measured(small), measured(large)) for _ in range(repeats)]
        worst = excess(small, large, statistics.median(b / a for a, b in times))
        if worst > LIMIT:
            cliffs.append(
                Cliff(small, large, worst, *(statistics.median(column) for column in zip(*times, strict=True)))
            )
    return sorted(cliffs, key=lambda cliff: -cliff.excess)


def lines_of(family: Family, widths: list[int], batches: list[int], threads: list[int]) -> list[list[Point]]:
    """The points in lines: along the widths at some batches, along the batches at some widths, along the threads."""
    few_widths = [width for width in (16, 64, 256) if width in widths] or widths[-1:]
    few_batches = [batch for batch in (1, 32, 256) if batch in batches] or batches[-1:]
    lines = [[Point(width, batch, n, family) for width in widths] for batch in few_batches for n in threads]
    return lines + [[Point(width, batch, n, family) for batch in batches] for width in few_widths for n in threads]


def neighbours(lines: list[list[Point]], threads: list[int]) -> list[tuple[Point, Point]]:
    """The points beside each other on a line, and the same sizes on more threads."""
    pairs = [pair for line in lines for pair in pairwise(line)]
    for line in lines:
        for point in line:
            after = threads.index(point.threads) + 1
            if after < len(threads):
                pairs.append((point, replace(point, threads=threads[after])))
    return list(dict.fromkeys(pairs))


def draw(lines: list[list[Point]], seconds: dict[Point, float], cliffs: list[Cliff], path: Path) -> None:
    """Throughput along each line, a colour for each number of threads, the worse side of each cliff in red."""
    from matplotlib.figure import Figure

    titles: dict[str, list[list[Point]]] = {}
    for line in lines:
        along = len({point.width for point in line}) > 1
        title = f"batch {line[0].batch}, along the width" if along else f"width {line[0].width}, along the batch"
        titles.setdefault(title, []).append(line)
    figure = Figure(figsize=(12, 3 * len(titles)), layout="constrained")
    marked = {cliff.small if cliff.small_seconds > cliff.large_seconds else cliff.large for cliff in cliffs}
    for axes, (title, group) in zip(np.ravel(figure.subplots(len(titles), squeeze=False)), titles.items(), strict=True):
        for line in group:
            at = [point.width if title.endswith("width") else point.batch for point in line]
            rates = [point.operations / seconds[point] / 1e9 for point in line]
            axes.plot(at, rates, linewidth=1, label=f"{line[0].threads} thread{'s' * (line[0].threads > 1)}")
            red = [n for n, point in enumerate(line) if point in marked]
            axes.plot([at[n] for n in red], [rates[n] for n in red], "o", color="red", markersize=4)
        axes.set_title(title)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("GFLOP/s")
        axes.legend()
    figure.savefig(path, dpi=130)


def sizes(text: str) -> list[int]:
    """1,4,60-70 as numbers."""
    ranges = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return sorted({n for ends in ranges for n in range(ends[0], ends[-1] + 1)})


def usual_batches() -> list[int]:
    """1 to 64, then in steps of a tenth to 4096, each with the next; and where tiles end."""
    batches = {*range(1, 65), 4096}
    for n in (*np.geomspace(64, 4095, 45), 96, 128, 192, 256, 384, 512, 768, 1024, 2048):
        batches |= {int(n), int(n) + 1}
    return sorted(batches)


def main() -> None:
    """The command line."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=sizes, default=sizes("1-512"), metavar="1-64,96")
    parser.add_argument("--batches", type=sizes, default=usual_batches(), metavar="1,32,100-130")
    parser.add_argument("--threads", type=sizes, default=sizes(f"1-{cores}"), metavar=f"1-{cores}")
    parser.add_argument("--layers", default="W,W,W,10", help="the networks; W is the width that varies")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--optimizer", choices=list(known), default="sgd")
    parser.add_argument("--predict", action="store_true", help="run the networks instead of training them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7, help="of a pair that looks like a cliff")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, with hardware and versions")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the throughput")
    args = parser.parse_args()
    layers = tuple(0 if width == "W" else int(width) for width in args.layers.split(","))
    family = Family(layers, args.dtype, args.optimizer, args.predict)
    lines = lines_of(family, args.widths, args.batches, args.threads)
    seconds = scan(list(dict.fromkeys(point for line in lines for point in line)), args.rounds)
    pairs = neighbours(lines, args.threads)
    suspects = [pair for pair in pairs if excess(*pair, seconds[pair[1]] / seconds[pair[0]]) > LIMIT]
    print(f"{len(pairs)} neighbours, {len(suspects)} look like cliffs", flush=True)
    cliffs: list[Cliff] = []
    for n in range(PASSES):
        cliffs = confirmed(suspects, args.repeats)
        suspects = [(cliff.small, cliff.large) for cliff in cliffs]
        print(f"  pass {n + 1} of {PASSES}: {len(cliffs)} are, measured in turn", flush=True)
    print(f"{len(cliffs)} cliffs" + "".join(f"\n  {cliff}" for cliff in cliffs))
    where = machine(max(args.threads))
    print(f"{where['cpu']}, {where['threads']} threads, Python {where['python']}, {where['versions']}")
    if args.json:
        rows = [asdict(point) | {"seconds": taken, "operations": point.operations} for point, taken in seconds.items()]
        result = {"machine": where, "points": rows, "cliffs": [asdict(cliff) for cliff in cliffs]}
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.plot:
        draw(lines, seconds, cliffs, args.plot)


if __name__ == "__main__":
    main()
