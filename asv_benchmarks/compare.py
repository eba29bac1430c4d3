"""Set fastnn beside what else people train small networks with: the same weights, data and steps, in turn.

    python asv_benchmarks/compare.py                                # every workload, every library that is installed
    python asv_benchmarks/compare.py --workloads moons wide --peers JAX PyTorch
    python asv_benchmarks/compare.py --layers 30,100,2 --rows 4000 --batch 64    # a network of your own
    python asv_benchmarks/compare.py --precision bf16 --workloads wide           # products of bfloat16 numbers
    python asv_benchmarks/compare.py --device cuda --json h200.json              # on a GPU, larger workloads too
    python asv_benchmarks/compare.py --device cuda --precision tf32              # on its tensor cores
    python asv_benchmarks/compare.py --device cuda --products                    # matrix products, beside cuBLAS

Each library runs in a process of its own that may use the same cores. It trains CHECKED epochs, which also compiles;
the loss of its weights is then worked out in float64, and a library whose loss differs from the others' counts as
void: it has no time, and is not the fastest. After that all train again and again, in turn, as many epochs as fit
0.2 s, and the median of each counts. Shuffling is off, so that all make the same steps. With --predict they run the
network on one row and on many instead; void is then what differs from the outputs of 64 rows in float64. On a GPU the
data lie there before training begins, TF32 is off where it is not named, the floor is that of the multiply-adds at the
highest clock, and the memory is what the device was short of at most while a library started and trained.
"""

import argparse
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import Process, ProcessDiedError, asked, in_turn, started

CHECKED = 2  # epochs before the losses are compared
TOLERANCES = {"float32": 1e-4, "tf32": 1e-3, "bf16": 1e-2}  # of the loss, relative where it is above 1; of outputs
PREDICTED_ROWS = (1, 10_000)
PRODUCTS = {
    "cpu": ("128x128x128", "512x512x512", "1024x1024x1024", "128x784x256", "5000x400x25"),
    "cuda": (
        "512x512x512", "1024x1024x1024", "2048x2048x2048", "4096x4096x4096", "8192x8192x8192", "4095x4095x4095",
        "128x784x256", "16384x64x64", "262144x128x128", "64x16384x64", "128x262144x128",
    ),
}  # fmt: skip


def training(workload: Any, names: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds an epoch of each library, and the least that the multiply-adds alone would take."""
    processes: list[Process] = []
    memory = {}
    for name in names:
        with DeviceMemory(args.device) as taken:
            processes += asked(started([name], "peers", workload, args.threads, args.device), "train", CHECKED)
        memory[name] = round(taken.mebibytes)
    losses = {process.name: loss for process, loss in asked(processes, "loss").items()}
    middle = statistics.median([loss for loss in losses.values() if math.isfinite(loss)] or [math.nan])
    most = TOLERANCES[workload.precision] * max(1.0, middle) / 2  # then any two are within the whole
    void = [name for name, loss in losses.items() if not abs(loss - middle) <= most]
    for name in void:
        print(f"  {name}: void, its loss is {losses[name]:.6g} where {middle:.6g} is the median", flush=True)
    result = _timed(processes, losses, void, args, workload.operations, "train")
    if args.device == "cuda":
        result["memory"] = {name: memory[name] for name in losses}
    return result | {"losses": losses}


def prediction(workload: Any, names: list[str], args: argparse.Namespace, rows: int) -> dict[str, Any]:
    """Milliseconds of one call of each library on `rows` rows."""
    processes = started(names, "peers", workload, args.threads, args.device)
    errors = {process.name: error for process, error in asked(processes, "outputs", rows).items()}
    void = [name for name, error in errors.items() if not error <= TOLERANCES[workload.precision]]
    for name in void:
        print(f"  {name}: void, an output is wrong by {errors[name]:.2g}", flush=True)
    result = _timed(processes, errors, void, args, 2 * rows * workload.multiply_adds, "predict", rows)
    return result | {"errors": errors}


def multiplication(shape: str, names: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of one product of each library, of many that are enqueued."""
    from benchmarks.products import PEERS

    processes = started(names, "products", shape, args.threads, args.device)
    errors = {process.name: error for process, error in asked(processes, "error").items()}
    void = [name for name, error in errors.items() if not error <= PEERS[name].tolerance]
    for name in void:
        print(f"  {name}: void, it is wrong by {errors[name]:.2g} of |a| @ |b|", flush=True)
    operations = 2 * math.prod(int(size) for size in shape.split("x"))
    return _timed(processes, errors, void, args, operations, "multiply") | {"errors": errors}


def _timed(
    processes: list[Process], alive: Iterable[str], void: list[str], args: argparse.Namespace, operations: int,
    *request: Any,
) -> dict[str, Any]:  # fmt: skip
    """Milliseconds of each that is alive and not void, and what `operations` take at the peak; ends them all."""
    processes = [process for process in processes if process.name in alive]
    seconds = in_turn([process for process in processes if process.name not in void], args.rounds, *request)
    peaks = asked(processes, "peak")
    for process in peaks:
        process.end()
    if not peaks:
        raise ProcessDiedError("no library is left")
    peak = next(iter(peaks.values())) * (1 if args.device == "cuda" else args.threads)
    return {
        "milliseconds": {process.name: 1e3 * taken for process, taken in seconds.items()},
        "floor": 1e3 * operations / peak,
        "void": void,
    }


class DeviceMemory:
    """How much of a GPU's memory was taken at most while this lasted, contexts and pools included."""

    mebibytes = 0.0

    def __init__(self, device: str) -> None:
        self._watch = device == "cuda"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "DeviceMemory":
        if self._watch:
            self._before = self._free()
            self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._done.set()
        if self._watch:
            self._thread.join()

    def _follow(self) -> None:
        while not self._done.wait(0.005):
            self.mebibytes = max(self.mebibytes, (self._before - self._free()) / 2**20)

    @staticmethod
    def _free() -> float:
        from kernels.cuda.driver.gpu import free_memory

        return free_memory()


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """How many times as long as fastnn each other library takes."""
    times = result["milliseconds"]
    return {name: taken / times["fastnn"] for name, taken in times.items() if name != "fastnn" and "fastnn" in times}


def table(results: dict[str, dict[str, Any]], names: list[str]) -> str:
    """A Markdown table: fastnn's times, and the others' as multiples of them."""
    others = [name for name in names if any(name in [*ratios(result), *result["void"]] for result in results.values())]
    lines = ["| " + " | ".join(["network", "fastnn, ms", "FMA floor, ms", *others]) + " |"]
    lines.append("|" + "---|" * (len(others) + 3))
    best = []
    for label, result in results.items():
        ratio = ratios(result)
        alike = [taken for name, taken in ratio.items() if not name.startswith("fastnn") and "TF32" not in name]
        best.append(min(alike, default=math.nan))
        cells = [
            f"{ratio[name]:.2f}x" if name in ratio else "void" if name in result["void"] else "-" for name in others
        ]
        taken = result["milliseconds"].get("fastnn", math.nan)
        floor = float(f"{result['floor']:.2g}")
        lines.append("| " + " | ".join([label, f"{taken:.3g}", f"{floor:g}", *cells]) + " |")
    best = [ratio for ratio in best if ratio > 0]
    if not best:
        return "\n".join(lines)
    mean = math.exp(statistics.fmean(map(math.log, best)))
    lines.append(f"\nfastest other library against fastnn, geometric mean: {mean:.2f}x; least: {min(best):.2f}x")
    if void := [f"{name} on {label}" for label, result in results.items() for name in result["void"]]:
        lines.append(f"without what is void: {', '.join(void)}")
    return "\n".join(lines)


def memory_table(results: dict[str, dict[str, Any]], names: list[str]) -> str:
    """A Markdown table: the MiB of a GPU's memory that each library took at most."""
    lines = ["| MiB at most | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for label, result in results.items():
        cells = [str(result["memory"].get(name, "-")) for name in names]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: dict[str, dict[str, Any]], names: list[str], path: Path) -> None:
    """Bars: each library's time as a multiple of fastnn's."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    others = [name for name in names if any(name in ratios(result) for result in results.values())]
    if not others:
        print(f"nothing to draw in {path}: there is no other library's time")
        return
    figure = Figure(figsize=(max(10.0, 1.5 + 1.6 * len(results)), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(others)
    for n, name in enumerate(others):
        at = [i + (n - (len(others) - 1) / 2) * width for i in range(len(results))]
        above = [ratios(result).get(name, math.nan) - 1.0 for result in results.values()]
        axes.bar(at, above, width, bottom=1.0, label=name)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.set_xlim(-0.5, len(results) - 0.5)
    axes.text(len(results) - 0.48, 1.0, "fastnn", va="center")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}x")
    axes.yaxis.set_minor_formatter("")
    axes.set_xticks(range(len(results)), list(results))
    axes.set_ylabel("time, fastnn = 1")
    figure.legend(loc="outside upper center", ncols=len(others))
    figure.savefig(path, dpi=130)


def machine(threads: int, device: str = "cpu") -> dict[str, Any]:
    """The hardware and the versions that the figures are from."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    versions = {}
    for name in ("numpy", "numba", "jax", "torch", "keras", "scikit-learn", "onnxruntime", "triton"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    where = {"cpu": cpu, "threads": threads, "python": platform.python_version(), "versions": versions}
    if device == "cuda":
        from kernels import cuda

        where["gpu"] = {**cuda.info(), "driver": _driver()}
    return where


def _driver() -> str:
    """The version of NVIDIA's driver."""
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The networks to compare on."""
    from benchmarks.workloads import ADAM, LARGE, WORKLOADS, Workload

    import fastnn

    if args.layers is None:
        everything = WORKLOADS | LARGE
        names = [*WORKLOADS, *(LARGE if args.device == "cuda" else ())]
        if unknown := sorted(set(args.workloads or ()) - set(everything)):
            raise SystemExit(f"compare.py: --workloads must be among {', '.join(everything)}, got {', '.join(unknown)}")
        return {name: everything[name] for name in args.workloads or names}
    layers = args.layers
    if args.rows < args.batch:
        raise SystemExit(f"compare.py: --rows must be at least --batch, got {args.rows} and {args.batch}")
    optimizer = {"adam": ADAM, "sgd": fastnn.SGD(0.01)}[args.optimizer]
    output = "sigmoid" if layers[-1] == 1 else "softmax"
    return {"-".join(map(str, layers)): Workload(layers, args.rows, args.batch, optimizer, 1, output)}


def works(args: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """The libraries that are asked, and a call for each line of the table."""
    if args.products is not None:
        from benchmarks.products import PEERS

        names = _asked(args, [name for name in PEERS if args.device in PEERS[name].devices])
        shapes = args.products or PRODUCTS[args.device]
        return names, {shape: partial(multiplication, shape, names, args) for shape in shapes}
    names = _asked(args, _of_networks(args))
    networks = {label: replace(network, precision=args.precision) for label, network in chosen(args).items()}
    if args.predict:
        return names, {
            f"{label}, {rows} row{'s' * (rows > 1)}": partial(prediction, workload, names, args, rows)
            for label, workload in networks.items()
            for rows in PREDICTED_ROWS
        }
    return names, {label: partial(training, workload, names, args) for label, workload in networks.items()}


def _of_networks(args: argparse.Namespace) -> list[str]:
    """The libraries that run networks, or train them, on this device and with this precision."""
    from benchmarks.peers import PEERS

    return [
        name
        for name, peer in PEERS.items()
        if args.device in peer.devices and args.precision in peer.precisions and (args.predict or peer.train)
    ]


def _asked(args: argparse.Namespace, names: list[str]) -> list[str]:
    """Those of the libraries that --peers names, and fastnn; without it all."""
    if not args.peers:
        return names
    if unknown := sorted(set(args.peers) - set(names)):
        raise SystemExit(f"compare.py: --peers must be among {', '.join(names)}, got {', '.join(unknown)}")
    return [name for name in names if name in args.peers or name == "fastnn"]


def count(text: str) -> int:
    """A number of things, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, got {text}")
    return int(text)


def layers(text: str) -> tuple[int, ...]:
    """Widths of layers, for argparse."""
    widths = tuple(map(count, text.split(",")))
    if len(widths) < 2:
        raise argparse.ArgumentTypeError(f"must be two widths or more with commas between them, got {text}")
    return widths


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=list(TOLERANCES), default="float32", help="of the networks' products")
    parser.add_argument("--workloads", nargs="+", metavar="NAME")
    parser.add_argument("--layers", type=layers, help="a network of your own, 30,100,2 say; one output is a sigmoid")
    parser.add_argument("--rows", type=count, default=4000)
    parser.add_argument("--batch", type=count, default=64)
    parser.add_argument("--optimizer", choices=["adam", "sgd"], default="adam")
    parser.add_argument("--peers", nargs="+", metavar="NAME")
    parser.add_argument("--predict", action="store_true", help="run the networks instead of training them")
    parser.add_argument("--products", nargs="*", metavar="MxKxN", help="matrix products instead, of these sizes")
    parser.add_argument("--threads", type=count, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=count, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure, with hardware and versions")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios as bars")
    args = parser.parse_args()
    for path in filter(None, (args.json, args.plot)):
        if not path.absolute().parent.is_dir():
            raise SystemExit(f"compare.py: there is no folder {path.absolute().parent}")
    from kernels import backends, devices

    try:
        backends.check_precision(args.precision, devices.device(args.device))
    except (ImportError, RuntimeError, ValueError) as error:
        raise SystemExit(f"compare.py: {error}") from None
    where, results = machine(args.threads, args.device), {}
    names, calls = works(args)
    for label, call in calls.items():
        print(label, flush=True)
        try:
            results[label] = call()
        except ProcessDiedError as error:
            print(f"  void: {error}", flush=True)
            for process in multiprocessing.active_children():
                process.terminate()
            continue
        if args.json:  # what there is, should a later one take too long
            args.json.write_text(json.dumps({"machine": where, "results": results}, indent=1) + "\n")
    print(f"\n{table(results, names)}\n")
    if any("memory" in result for result in results.values()):
        print(f"{memory_table(results, names)}\n")
    print(f"{where['cpu']}, {where['threads']} threads, Python {where['python']}, {where['versions']}")
    if "gpu" in where:
        print(", ".join(f"{name} {value}" for name, value in where["gpu"].items()))
    if args.plot:
        draw(results, names, args.plot)
    void = [label for label in calls if "fastnn" not in results.get(label, {"milliseconds": {}})["milliseconds"]]
    if void:
        raise SystemExit(f"compare.py: fastnn has no valid result for {', '.join(void)}")


if __name__ == "__main__":
    main()
