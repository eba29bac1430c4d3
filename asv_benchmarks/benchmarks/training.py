"""Training whole networks: epochs, single steps, gradients; and what peers take for the same."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from fastnn.profile import Profile
from kernels.cpu.measure.stamps import PHASES
from kernels.layers import NORMS

from .common import Sampled, once, sweep, use_threads
from .devices import DEVICES, use
from .peak import share_of_peak
from .peers import OTHERS, PEERS, peer_or_skip
from .workloads import WORKLOADS

THREADS = sweep(1, 2)
NAMES = sweep(*WORKLOADS)


class Fit(Sampled):
    """`fit` over as many epochs as the workload says, from the initial weights each time."""

    params = [DEVICES, NAMES, THREADS]
    param_names = ["device", "workload", "threads"]

    @once
    def setup(self, device: str, name: str, threads: int) -> Callable[[], Any]:
        use(device, threads)
        workload = WORKLOADS[name]
        self.data, self.model = workload.data(), workload.model(threads, device)
        return workload.fit(self.model, *self.data)

    def time_fit(self, device: str, name: str, threads: int) -> None:
        self.call()

    def track_error_rate(self, device: str, name: str, threads: int) -> float:
        self.call()
        return 100.0 * (1.0 - self.model.evaluate(*self.data)["accuracy"])

    def track_share_of_peak(self, device: str, name: str, threads: int) -> float:
        workload = WORKLOADS[name]
        return share_of_peak(self, workload.epochs * workload.operations, "float32", threads, device)

    track_error_rate.unit = "% of rows wrong"
    track_share_of_peak.unit = "% of FMA peak"


class Precision(Sampled):
    """The same `fit` with products of bfloat16 numbers; `Fit` has float32's time and error rate."""

    params = [DEVICES, sweep("wide", "mnist", "small32"), THREADS]
    param_names = ["device", "workload", "threads"]

    @once
    def setup(self, device: str, name: str, threads: int) -> Callable[[], Any]:
        use(device, threads)
        workload = replace(WORKLOADS[name], precision="bf16")
        try:
            self.data, self.model = workload.data(), workload.model(threads, device)
        except ValueError as error:
            raise NotImplementedError(str(error)) from None
        return workload.fit(self.model, *self.data)

    def time_fit(self, device: str, name: str, threads: int) -> None:
        self.call()

    def track_error_rate(self, device: str, name: str, threads: int) -> float:
        self.call()
        return 100.0 * (1.0 - self.model.evaluate(*self.data)["accuracy"])

    track_error_rate.unit = "% of rows wrong"


class Normalized(Sampled):
    """The same `fit` with normalised hidden layers; `Fit` has that without."""

    params = [sweep(*NORMS), sweep("small32", "mnist"), THREADS]
    param_names = ["norm", "workload", "threads"]

    @once
    def setup(self, norm: str, name: str, threads: int) -> Callable[[], Any]:
        use("cpu", threads)
        workload = replace(WORKLOADS[name], norm=norm)
        return workload.fit(workload.model(threads), *workload.data())

    def time_fit(self, norm: str, name: str, threads: int) -> None:
        self.call()


class Step(Sampled):
    """One batch: a training step with what `fit` costs around it, and the gradients without an update."""

    params = [DEVICES, sweep("fit", "loss_and_gradients"), NAMES, THREADS]
    param_names = ["device", "call", "workload", "threads"]

    @once
    def setup(self, device: str, call: str, name: str, threads: int) -> Callable[[], Any]:
        use(device, threads)
        workload = WORKLOADS[name]
        model = workload.model(threads, device)
        X, y = (array[: workload.batch_size] for array in workload.data())
        if call == "loss_and_gradients":
            return lambda: model.loss_and_gradients(X, y)
        return lambda: model.fit(X, y, 1, workload.batch_size, workload.optimizer, progress=False)

    def time_step(self, device: str, call: str, name: str, threads: int) -> None:
        self.call()


class Phases:
    """What `profile` says of a step's phases, those of all layers together."""

    params = [NAMES, sweep(*reversed(PHASES)), THREADS]
    param_names = ["workload", "phase", "threads"]
    timeout = 600

    def setup_cache(self) -> dict[tuple[str, int], Profile]:
        profiles = {}
        for name, threads in itertools.product(self.params[0], self.params[2]):
            workload = WORKLOADS[name]
            model = workload.model(threads)
            profiles[name, threads] = model.profile(*workload.data(), workload.batch_size, workload.optimizer)
        return profiles

    def setup(self, profiles: dict[tuple[str, int], Profile], name: str, phase: str, threads: int) -> None:
        use_threads(threads)
        self.profile = profiles[name, threads]
        self.rows = [row for row in self.profile.rows if row.phase == phase]
        if not self.rows:
            raise NotImplementedError(f"{name} has no phase {phase}")

    def track_time(self, *params: Any) -> float:
        return 1e6 * sum(row.seconds for row in self.rows)

    def track_share_of_roofline(self, *params: Any) -> float:
        return 100.0 * sum(row.roofline * row.seconds for row in self.rows) / sum(row.seconds for row in self.rows)

    track_time.unit = "us"  # type: ignore[attr-defined]
    track_share_of_roofline.unit = "% of roofline"  # type: ignore[attr-defined]


class PeerFit(Sampled):
    """The same epochs in other libraries, on all cores: a control of the machine, and a yardstick."""

    params = [sweep(*(name for name in OTHERS if PEERS[name].train)), NAMES]
    param_names = ["library", "workload"]

    @once
    def setup(self, library: str, name: str) -> Callable[[], Any]:
        peer = peer_or_skip(library, WORKLOADS[name])
        assert peer.train
        return partial(peer.train, peer.workload.epochs)

    def time_fit(self, library: str, name: str) -> None:
        self.call()
