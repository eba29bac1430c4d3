"""The libraries that fastnn's matrix product is set beside: c (m, n) = a (m, k) @ b (k, n), float32.

The sums are float32, and so are the factors where no other precision is named.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .devices import backend, on_host, placed, product_call, use_precision
from .kernels import empty, normal, sizes


class Product:
    """What all of them keep. `multiply()` enqueues a product, `wait()` returns when all are done."""

    devices: tuple[str, ...] = ("cpu", "cuda")
    tolerance = 1e-4  # of the result, relative to |a| @ |b|
    calls = 0  # of one measurement of compare.py, once it is known

    def __init__(self, shape: str, threads: int, device: str) -> None:
        m, k, n = sizes(shape)
        self.threads, self.device = threads, device
        self.a, self.b, self.c = normal(0, m, k), normal(1, k, n), empty(m, n)
        self.multiply, self.wait, self.result = self.prepare()
        self.multiply()
        self.wait()

    def prepare(self) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], np.ndarray]]:
        """multiply, wait and the result's copy on the host."""
        raise NotImplementedError

    def exact(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a @ b


class Fastnn(Product):
    """This project's linear."""

    activation = "identity"

    def prepare(self) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], np.ndarray]]:
        a, b, c = placed(self.device, self.a, self.b, self.c)
        linear, bias, activation = backend(self.device).linear, self.bias(), self.activation
        wait: Callable[[], Any] = lambda: None  # noqa: E731
        if self.device == "cuda":
            from kernels.cuda.driver.gpu import synchronize as wait
        return lambda: linear(a, b, bias, activation, out=c), wait, lambda: on_host(c)

    def bias(self) -> Any:
        return None


class FastnnFused(Fastnn):
    """The same with bias and ReLU, which should cost nothing."""

    activation = "relu"

    def bias(self) -> Any:
        self.b_vector = normal(2, self.b.shape[1])
        return placed(self.device, self.b_vector)[0]

    def exact(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum(a @ b + self.b_vector, 0)


class FastnnTF32(Fastnn):
    """The product on a GPU's tensor cores, in TF32: factors are rounded to 11 bits."""

    devices = ("cuda",)
    precision = "tf32"
    tolerance = 2.0**-10

    def prepare(self) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], np.ndarray]]:
        use_precision(self.precision)
        a, b, c = placed(self.device, self.a, self.b, self.c)
        return product_call(self.precision, a, b, c), super().prepare()[1], lambda: on_host(c)


class FastnnBF16(FastnnTF32):
    """The same in bf16: to 8 bits."""

    precision = "bf16"
    tolerance = 2.0**-7


class Numpy(Product):
    """NumPy's dot."""

    devices = ("cpu",)

    def prepare(self) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], np.ndarray]]:
        return lambda: np.dot(self.a, self.b, out=self.c), lambda: None, lambda: self.c


class Torch(Product):
    """PyTorch's product: MKL or oneDNN on a CPU, cuBLAS on a GPU."""

    precision = "highest"

    def prepare(self) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], np.ndarray]]:
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(f"PyTorch {torch.__version__} sees no GPU")
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.precision)
        a, b, c = (torch.from_numpy(array).to(self.device) for array in (self.a, self.b, self.c))
        wait = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        return lambda: torch.mm(a, b, out=c), wait, lambda: c.cpu().numpy()


class TorchTF32(Torch):
    """cuBLAS with TF32."""

    devices = ("cuda",)
    precision = "high"
    tolerance = FastnnTF32.tolerance


PEERS: dict[str, type[Product]] = {
    "fastnn": Fastnn,
    "fastnn, bias and ReLU": FastnnFused,
    "fastnn TF32": FastnnTF32,
    "fastnn bf16": FastnnBF16,
    "PyTorch": Torch,
    "PyTorch TF32": TorchTF32,
    "NumPy": Numpy,
}
