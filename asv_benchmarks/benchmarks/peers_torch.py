"""PyTorch as a peer: see peers.py."""

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
        options = {"capturable": True} if self.adam and self.capturable else {}
        make = torch.optim.Adam if self.adam else torch.optim.SGD
        self.optimizer = make(self.model.parameters(), lr=self.rate, fused=True, **options)
        loss = torch.nn.functional.binary_cross_entropy_with_logits if self.sigmoid else None
        loss = loss or torch.nn.functional.cross_entropy
        x, y = torch.from_numpy(self.X).to(self.device), torch.from_numpy(self.y).to(self.device)
        if self.sigmoid:
            y = y[:, None].float()
        self.batches = list(zip(x.split(self.workload.batch_size), y.split(self.workload.batch_size)))

        if self.workload.precision == "bf16":
            rounded: Any = torch.autocast(self.device, torch.bfloat16)
        else:
            rounded = lambda function: function  # noqa: E731
        self.run = rounded(self.model)

        @rounded
        def measure(x: Any, y: Any) -> Any:
            return loss(self.model(x), y)

        self.measure = torch.compile(measure) if self.compiled else measure

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
    """PyTorch with torch.compile on forward and backward; it needs a C++ compiler."""

    compiled = True


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
