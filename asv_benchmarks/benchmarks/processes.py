"""Libraries at work side by side for compare.py: each in a process of its own, which answers requests."""

import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

SECONDS = 0.2  # of one measurement: as many epochs or calls as fit
ROWS_CHECKED = 64  # of a product or a prediction, worked out in float64


def serve(pipe: Any, threads: int, device: str) -> None:
    """The process of one library: of PEERS[name] of a module at some work, which come first, answer requests."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(threads)  # before NumPy is imported, which unpickling a workload does
    module, name, work = pipe.recv()
    try:
        peer = importlib.import_module(f"benchmarks.{module}").PEERS[name](work, threads, device)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    pipe.send(None)
    requests = {
        "train": _train, "loss": _loss, "predict": _predict, "outputs": _outputs, "multiply": _multiply,
        "error": _error, "peak": _peak,
    }  # fmt: skip
    while (request := pipe.recv()) is not None:
        kind, *arguments = request
        pipe.send(requests[kind](peer, *arguments))


def _train(peer: Any, epochs: int = 0) -> float:
    """Seconds an epoch, of `epochs` epochs, or of as many as take SECONDS."""
    if epochs:
        return _seconds(peer.train, epochs) / epochs
    peer.epochs = peer.epochs or _fitting(peer.train)
    peer.train(max(1, peer.epochs // 8))  # after a pause caches, and on some machines the memory, are cold
    return _seconds(peer.train, peer.epochs) / peer.epochs


def _fitting(call: Callable[[int], None]) -> int:
    """How many times something can be done in SECONDS: twice as often as before, until that takes half of them."""
    n = 1
    while (taken := _seconds(call, n)) < SECONDS / 2:
        n *= 2
    return max(1, round(n * SECONDS / taken))


def _seconds(call: Callable[[int], None], n: int) -> float:
    start = time.perf_counter()
    call(n)
    return time.perf_counter() - start


def _loss(peer: Any) -> float:
    """The loss of the peer's weights on all rows, in float64."""
    import numpy as np

    from kernels import reference

    z = _logits(peer, peer.X)
    if peer.sigmoid:
        name, y = "sigmoid_cross_entropy", peer.y[:, np.newaxis].astype(np.float64)
    else:
        name, y = "softmax_cross_entropy", peer.y
    return float(reference.loss_and_gradient(name, z, y)[0])


def _logits(peer: Any, X: Any) -> Any:
    """What the peer's weights make of X before the last activation, in float64."""
    import numpy as np

    z, weights = X.astype(np.float64), peer.weights()
    for w, b in weights[:-1]:
        z = np.maximum(z @ w.astype(np.float64) + b, 0.0)
    return z @ weights[-1][0].astype(np.float64) + weights[-1][1]


def _rows(peer: Any, rows: int) -> Any:
    """What is predicted: normal random numbers (rows, inputs), float32."""
    import numpy as np

    return np.random.default_rng(1).normal(size=(rows, peer.workload.layers[0])).astype(np.float32)


def _predict(peer: Any, rows: int) -> float:
    """Seconds of one call on `rows` rows, of as many as fit half the time."""
    call = peer.predictor(_rows(peer, rows))
    call()  # compiles
    calls, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < SECONDS / 2:
        call()
        calls += 1
    return taken / calls


def _outputs(peer: Any, rows: int) -> float:
    """The largest error of the first outputs on `rows` rows."""
    import numpy as np

    from kernels import reference

    X = _rows(peer, rows)
    z = _logits(peer, X[:ROWS_CHECKED])
    exact = reference.activate(z, "sigmoid") if peer.sigmoid else reference.softmax(z)
    call = peer.predictor(X)
    outputs = np.asarray(call())[: len(exact), -exact.shape[1] :]  # scikit-learn gives both of two classes
    return float(np.abs(outputs - exact).max())


def _multiply(peer: Any) -> float:
    """Seconds of one product, of as many enqueued one after the other as take SECONDS."""

    def multiply(calls: int) -> None:
        for _ in range(calls):
            peer.multiply()
        peer.wait()

    peer.calls = peer.calls or _fitting(multiply)
    multiply(max(1, peer.calls // 8))
    return _seconds(multiply, peer.calls) / peer.calls


def _error(peer: Any) -> float:
    """The largest error of a product's first rows, relative to |a| @ |b|."""
    import numpy as np

    peer.multiply()
    a, b = peer.a[:ROWS_CHECKED].astype(np.float64), peer.b.astype(np.float64)
    return float(np.max(np.abs(peer.result()[:ROWS_CHECKED] - peer.exact(a, b)) / (np.abs(a) @ np.abs(b))))


def _peak(peer: Any) -> float:
    """Floating-point operations a second in multiply-adds: of one core on registers, or the GPU's, nominal."""
    from .peak import flops, nominal

    if peer.device == "cuda":
        return nominal("float32")
    return statistics.median(flops(seconds=0.004) for _ in range(25))


class ProcessDiedError(Exception):
    """The process of a library ended before it was told to."""


class Process:
    """One library at work on one network or product."""

    def __init__(self, module: str, name: str, work: Any, threads: int, device: str) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, threads, device), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.send((module, name, work))
        self.problem: str | None = self.receive()

    def ask(self, *request: Any) -> Any:
        self.pipe.send(request)
        return self.receive()

    def receive(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise ProcessDiedError(f"{self.name} died at this work") from None

    def end(self) -> None:
        if self.problem is None:
            self.pipe.send(None)
        self.process.join()


def started(names: Iterable[str], *work: Any) -> list[Process]:
    """The libraries that can do this work; says which cannot."""
    processes = []
    for name in names:
        process = Process(work[0], name, *work[1:])
        if process.problem is None:
            processes.append(process)
        else:
            print(f"  {name}: {process.problem}", flush=True)
            process.end()
    return processes


def asked(processes: Iterable[Process], *request: Any) -> dict[Process, Any]:
    """What each answers; who dies of it is named, and left out."""
    answers = {}
    for process in processes:
        try:
            answers[process] = process.ask(*request)
        except ProcessDiedError as error:
            print(f"  {error}", flush=True)
    return answers


def in_turn(processes: Iterable[Process], rounds: int, *request: Any) -> dict[Process, float]:
    """The median of what each answers over `rounds` rounds."""
    answers: dict[Process, list[float]] = {process: [] for process in processes}
    for _ in range(rounds):
        for process in list(answers):
            time.sleep(0.2)  # the threads of the one before spin for a while: OpenBLAS 25 ms and more, on 2 cores too
            if answer := asked([process], *request):
                answers[process].append(answer[process])
            else:
                del answers[process]
    return {process: statistics.median(values) for process, values in answers.items()}
