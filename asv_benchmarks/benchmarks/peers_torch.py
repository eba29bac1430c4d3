"""PyTorch as a peer: see peers.py."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .peer import Peer, Weights


class Torch(Peer):
    """PyTorch, one operation after the other; optimisers in their fused form."""

    devices = ("cpu", "cuda")
    precisions = ("float32", "tf32", "bf16")
    compiled = capturable = False

    def prepare(self) -> None:
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(f"PyTorch {torch.__version__} sees no GPU")
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision("high" if self.workload.precision == "tf32" else "highest")
        self.torch = torch
        modules: list[Any] = []
        for w, b in self.initial:
            linear = torch.nn.Linear(*w.shape)
            linear.weight.data, linear.bias.data = torch.tensor(w.T.copy()), torch.tensor(b)
            modules += [linear, torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*modules[:-1]).to(self.device)
        rule, options = self.workload.optimizer, {}
        if self.adam:
            options = {"betas": (rule.beta1, rule.beta2), "eps": rule.epsilon, "capturable": self.capturable}
        make = torch.optim.Adam if self.adam else torch.optim.SGD
        self.optimizer = make(self.model.parameters(), lr=self.rate, fused=True, **options)
        loss = torch.nn.functional.binary_cross_entropy_with_logits if self.sigmoid else None
        loss = loss or torch.nn.functional.cross_entropy
        x, y = torch.from_numpy(self.X).to(self.device), torch.from_numpy(self.y).to(self.device)
        if self.sigmoid:
            y = y[:, None].float()
        self.batches = list(zip(x.split(self.workload.batch_size), y.split(self.workload.batch_size)))

        if self.workload.precision == "bf16":
            self.rounded: Any = torch.autocast(self.device, torch.bfloat16)
        else:
            self.rounded = lambda function: function
        self.run = self.rounded(self.model)

        @self.rounded
        def measure(x: Any, y: Any) -> Any:
            return loss(self.model(x), y)

        self.loss, self.measure = loss, measure

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            self.epoch()
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def epoch(self) -> None:
        """A pass over the rows."""
        self.steps(self.batches)

    def steps(self, batches: Sequence[Any]) -> None:
        """A step on each of these batches."""
        for x, y in batches:
            self.optimizer.zero_grad(set_to_none=True)
            self.measure(x, y).backward()
            self.optimizer.step()

    def weights(self) -> Weights:
        linear = self.model[::2]
        return [(one.weight.detach().cpu().numpy().T, one.bias.detach().cpu().numpy()) for one in linear]

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        torch, x = self.torch, self.torch.from_numpy(X)
        last = torch.sigmoid if self.sigmoid else lambda z: torch.softmax(z, 1)
        model = torch.compile(self.run) if self.compiled else self.run

        def call() -> Any:
            with torch.inference_mode():
                return last(model(x.to(self.device))).cpu().numpy()

        return call


class TorchCompiled(Torch):
    """PyTorch with torch.compile on a whole step, gradient and update included; it needs a C++ compiler.

    Against compiling forward and backward of the modules, with a fused optimiser after them, an epoch of digits400
    takes 0.77 of the time, moons 0.68, small32 0.36, mnist 0.80 and deep 0.54 (2 cores of an Intel Xeon with AVX-512
    and AMX, PyTorch 2.13.0).
    """

    compiled = True

    def prepare(self) -> None:
        super().prepare()
        torch, rule, adam, rate = self.torch, self.workload.optimizer, self.adam, self.rate
        self.parameters = {name: value.detach() for name, value in self.model.named_parameters()}
        self.state = [{name: torch.zeros_like(p) for name, p in self.parameters.items()} for _ in "mv"]
        self.t = torch.zeros((), device=self.device)
        logarithms = [math.log(beta) for beta in (rule.beta1, rule.beta2)] if adam else []

        @torch.func.grad
        @self.rounded
        def gradient(parameters: Any, x: Any, y: Any) -> Any:
            return self.loss(torch.func.functional_call(self.model, parameters, x), y)

        def step(parameters: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> None:
            gradients = gradient(parameters, x, y)
            t += 1
            for name, p in parameters.items():
                g = gradients[name]
                if not adam:
                    p.sub_(rate * g)
                    continue
                m[name].mul_(rule.beta1).add_((1 - rule.beta1) * g)
                v[name].mul_(rule.beta2).add_((1 - rule.beta2) * g * g)
                c1, c2 = (-torch.expm1(t * logarithm) for logarithm in logarithms)  # 1 - beta**t, exactly
                p.sub_(rate * (m[name] / c1) / ((v[name] / c2).sqrt() + rule.epsilon))

        self.step = torch.compile(step)

    def steps(self, batches: Sequence[Any]) -> None:
        with self.torch.no_grad():
            for x, y in batches:
                self.step(self.parameters, *self.state, self.t, x, y)


class TorchGraphs(Torch):
    """PyTorch on a GPU with a whole epoch captured as one CUDA graph, which is replayed without the host."""

    devices = ("cuda",)
    capturable = True

    def prepare(self) -> None:
        super().prepare()
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what is made at first use cannot be captured: cuBLAS's handle, Adam's state
            self.steps(self.batches[:3])
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.steps(self.batches)
        with torch.no_grad():  # back to where training starts; capturing ran nothing
            for linear, (w, b) in zip(self.model[::2], self.initial, strict=True):
                linear.weight.copy_(torch.tensor(w.T.copy()))
                linear.bias.copy_(torch.tensor(b))
        for state in self.optimizer.state.values():
            for value in filter(torch.is_tensor, state.values()):
                value.zero_()

    def epoch(self) -> None:
        self.graph.replay()
