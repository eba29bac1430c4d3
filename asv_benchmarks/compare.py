"""Set fastnn beside what else people train small networks with: the same weights, data and steps, in turn.

    python asv_benchmarks/compare.py                                # every workload, every library that is installed
    python asv_benchmarks/compare.py --workloads moons wide --peers JAX PyTorch
    python asv_benchmarks/compare.py --layers 30,100,2 --rows 4000 --batch 64    # a network of your own

Each library runs in a process of its own that may use the same cores. It trains CHECKED epochs, which also compiles;
the loss of its weights is then worked out in float64, and a library whose loss differs from the others' counts as void.
After that all train again and again, in turn, as many epochs as fit SECONDS, and the median of each counts. Shuffling
is off, so that all make the same steps. With --predict they run the network on one row and on many instead.
"""

import argparse
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHECKED = 2  # epochs before the losses are compared
TOLERANCE = 1e-4  # of the loss, relative where it is above 1
SECONDS = 0.2  # of one measurement: as many epochs as fit
PREDICTED_ROWS = (1, 10_000)


def serve(pipe: Any, name: str, workload: Any, threads: int) -> None:
    """The process of one library: answer requests until there are no more."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(threads)  # before NumPy is imported
    from benchmarks.peers import PEERS

    try:
        peer = PEERS[name](workload, threads)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    pipe.send(None)
    while (request := pipe.recv()) is not None:
        kind, *arguments = request
        pipe.send({"train": _train, "loss": _loss, "predict": _predict, "peak": _peak}[kind](peer, *arguments))


def _train(peer: Any, epochs: int = 0) -> float:
    """Seconds an epoch, of so many, or of as many as take SECONDS."""
    if not epochs:
        peer.epochs = epochs = peer.epochs or max(1, round(SECONDS / _train(peer, 1)))
    start = time.perf_counter()
    peer.train(epochs)
    return (time.perf_counter() - start) / epochs


def _loss(peer: Any) -> float:
    """The loss of the peer's weights on all rows, in float64."""
    import numpy as np

    from kernels import reference

    z = peer.X.astype(np.float64)
    weights = peer.weights()
    for w, b in weights[:-1]:
        z = np.maximum(z @ w.astype(np.float64) + b, 0.0)
    z = z @ weights[-1][0].astype(np.float64) + weights[-1][1]
    if peer.sigmoid:
        return float(reference.sigmoid_cross_entropy(z, peer.y[:, np.newaxis].astype(np.float64))[0])
    return float(reference.softmax_cross_entropy(z, peer.y)[0])


def _predict(peer: Any, rows: int, seconds: float) -> float:
    """Seconds of one call on so many rows, of as many as fit the time."""
    import numpy as np

    call = peer.predictor(np.random.default_rng(1).normal(size=(rows, peer.workload.layers[0])).astype(np.float32))
    call()  # compiles
    calls, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        call()
        calls += 1
    return taken / calls


def _peak(peer: Any) -> float:
    """Floating-point operations a second of one core in multiply-adds on registers."""
    from kernels.cpu.peak import flops

    return statistics.median(flops(seconds=0.004) for _ in range(25))


class Process:
    """One library at work on one network."""

    def __init__(self, name: str, workload: Any, threads: int) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, name, workload, threads), daemon=True)
        self.process.start()
        theirs.close()
        self.problem: str | None = self.receive()

    def ask(self, *request: Any) -> Any:
        self.pipe.send(request)
        return self.receive()

    def receive(self) -> Any:
        try:
            return self.pipe.recv()
        except EOFError:
            raise SystemExit(f"{self.name} died on this network") from None

    def end(self) -> None:
        if self.problem is None:
            self.pipe.send(None)
        self.process.join()


def started(workload: Any, names: Iterable[str], threads: int) -> list[Process]:
    """The libraries that can work on this network; says which cannot."""
    processes = []
    for name in names:
        process = Process(name, workload, threads)
        if process.problem is None:
            processes.append(process)
        else:
            print(f"  {name}: {process.problem}", flush=True)
            process.end()
    return processes


def in_turn(processes: list[Process], rounds: int, *request: Any) -> dict[str, float]:
    """The median of what each answers over so many rounds."""
    answers: dict[str, list[float]] = {process.name: [] for process in processes}
    for _ in range(rounds):
        for process in processes:
            time.sleep(0.2)  # the threads of the one before spin for a while: OpenBLAS 25 ms and more, on 2 cores too
            answers[process.name].append(process.ask(*request))
    return {name: statistics.median(values) for name, values in answers.items()}


def training(workload: Any, names: list[str], threads: int, rounds: int) -> dict[str, Any]:
    """Milliseconds an epoch of each library, and the least that the multiply-adds alone would take."""
    processes = started(workload, names, threads)
    for process in processes:
        process.ask("train", CHECKED)
    losses = {process.name: process.ask("loss") for process in processes}
    middle = statistics.median(losses.values())
    void = [name for name, loss in losses.items() if not abs(loss - middle) <= TOLERANCE * max(1.0, middle)]
    for name in void:
        print(f"  {name}: void, its loss is {losses[name]:.6g} where {middle:.6g} is the median", flush=True)
    processes, left = [p for p in processes if p.name not in void], [p for p in processes if p.name in void]
    first = next((p for p in processes if p.name == "fastnn"), processes[0])
    seconds = in_turn(processes, rounds, "train")
    peak = first.ask("peak")
    for process in [*processes, *left]:
        process.end()
    return {
        "milliseconds": {name: 1e3 * taken for name, taken in seconds.items()},
        "floor": 1e3 * workload.operations / (peak * threads),
        "losses": losses,
        "void": void,
    }


def prediction(workload: Any, names: list[str], threads: int, rounds: int, rows: int) -> dict[str, Any]:
    """Milliseconds of one call of each library on so many rows."""
    processes = started(workload, names, threads)
    seconds = in_turn(processes, rounds, "predict", rows, 0.1)
    peak = next(p for p in processes if p.name == "fastnn").ask("peak")
    for process in processes:
        process.end()
    return {
        "milliseconds": {name: 1e3 * taken for name, taken in seconds.items()},
        "floor": 1e3 * 2 * rows * workload.multiply_adds / (peak * threads),
    }


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """How many times as long as fastnn each other library takes."""
    times = result["milliseconds"]
    return {name: taken / times["fastnn"] for name, taken in times.items() if name != "fastnn"}


def table(results: dict[str, dict[str, Any]], names: list[str]) -> str:
    """A Markdown table: fastnn's times, and the others' as multiples of them."""
    others = [name for name in names if any(name in result["milliseconds"] for result in results.values())]
    others = [name for name in others if name != "fastnn"]
    lines = ["| network | fastnn, ms | FMA floor, ms | " + " | ".join(others) + " |"]
    lines.append("|" + "---|" * (len(others) + 3))
    best = []
    for label, result in results.items():
        ratio = ratios(result)
        best.append(min(ratio.values(), default=math.nan))
        cells = [f"{ratio[name]:.2f}x" if name in ratio else "-" for name in others]
        lines.append(
            f"| {label} | {result['milliseconds']['fastnn']:.3g} | {result['floor']:.2g} | {' | '.join(cells)} |"
        )
    best = [ratio for ratio in best if ratio > 0]
    if not best:
        return "\n".join(lines)
    mean = math.exp(statistics.fmean(map(math.log, best)))
    lines.append(f"\nfastest other library against fastnn, geometric mean: {mean:.2f}x; least: {min(best):.2f}x")
    return "\n".join(lines)


def draw(results: dict[str, dict[str, Any]], names: list[str], path: Path) -> None:
    """Bars: each library's time as a multiple of fastnn's."""
    from matplotlib.figure import Figure

    others = [name for name in names if any(name in ratios(result) for result in results.values())]
    figure = Figure(figsize=(1.5 + 1.6 * len(results), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(others)
    for n, name in enumerate(others):
        at = [i + (n - (len(others) - 1) / 2) * width for i in range(len(results))]
        above = [ratios(result).get(name, math.nan) - 1.0 for result in results.values()]
        axes.bar(at, above, width, bottom=1.0, label=name)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.text(len(results) - 0.45, 1.0, "fastnn", ha="right", va="bottom")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}x")
    axes.yaxis.set_minor_formatter("")
    axes.set_xticks(range(len(results)), list(results))
    axes.set_ylabel("time, fastnn = 1")
    axes.legend(ncols=3)
    figure.savefig(path, dpi=130)


def machine(threads: int) -> dict[str, Any]:
    """The hardware and the versions that the figures are from."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    versions = {}
    for name in ("numpy", "numba", "jax", "torch", "keras", "scikit-learn", "onnxruntime"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"cpu": cpu, "threads": threads, "python": platform.python_version(), "versions": versions}


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The networks to compare on."""
    from benchmarks.workloads import EXTRA, WORKLOADS, Workload

    import fastnn

    if args.layers is None:
        everything = WORKLOADS | EXTRA
        return {name: everything[name] for name in args.workloads or everything}
    layers = tuple(int(width) for width in args.layers.split(","))
    rows = args.rows // args.batch * args.batch
    if rows != args.rows:
        print(f"{rows} rows instead of {args.rows}: JAX's scan takes whole batches")
    optimizer = {"adam": fastnn.Adam(1e-3), "sgd": fastnn.SGD(0.01)}[args.optimizer]
    output = "sigmoid" if layers[-1] == 1 else "softmax"
    return {args.layers.replace(",", "-"): Workload(layers, rows, args.batch, optimizer, 1, output)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", metavar="NAME")
    parser.add_argument("--layers", help="a network of your own, 30,100,2 say; one output is a sigmoid")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--optimizer", choices=["adam", "sgd"], default="adam")
    parser.add_argument("--peers", nargs="+", metavar="NAME")
    parser.add_argument("--predict", action="store_true", help="run the networks instead of training them")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, with hardware and versions")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios as bars")
    args = parser.parse_args()
    from benchmarks.peers import PEERS

    names = ["fastnn", *(name for name in args.peers or PEERS if name != "fastnn")]
    results: dict[str, dict[str, Any]] = {}
    for label, workload in chosen(args).items():
        print(f"{label}: {'-'.join(map(str, workload.layers))}", flush=True)
        if args.predict:
            for rows in PREDICTED_ROWS:
                key = f"{label}, {rows} row{'s' * (rows > 1)}"
                results[key] = prediction(workload, names, args.threads, args.rounds, rows)
        else:
            trained = [name for name in names if PEERS[name].train is not None]
            results[label] = training(workload, trained, args.threads, args.rounds)
    print(f"\n{table(results, names)}\n")
    where = machine(args.threads)
    print(f"{where['cpu']}, {where['threads']} threads, Python {where['python']}, {where['versions']}")
    if args.json:
        args.json.write_text(json.dumps({"machine": where, "results": results}, indent=1) + "\n")
    if args.plot:
        draw(results, names, args.plot)


if __name__ == "__main__":
    main()
