"""Layer normalisation: each row by its own mean and variance over its columns (Ba et al. 2016)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.layers.declaration import Array
from kernels.layers.normalization import NORMS, Normalization


@dataclass(frozen=True)
class LayerNorm(Normalization):
    """Rows are independent of each other, in training too."""

    axis: ClassVar[int] = 1
    torch: ClassVar[str] = "LayerNorm"

    def onnx(self, graph: Any, x: str, *own: Array) -> str:
        """LayerNormalization, or its formula."""
        gamma, beta = (graph.constant(array) for array in own)
        if graph.dtype == "float32":
            return str(graph.node("LayerNormalization", [x, gamma, beta], epsilon=self.epsilon))
        away = graph.node("Sub", [x, graph.node("ReduceMean", [x], axes=[1])])
        variance = graph.node("ReduceMean", [graph.node("Mul", [away, away])], axes=[1])
        deviation = graph.node("Sqrt", [graph.node("Add", [variance, graph.constant(self.epsilon)])])
        normal = graph.node("Div", [away, deviation])
        return str(graph.node("Add", [graph.node("Mul", [normal, gamma]), beta]))


NORMS.add("layer", LayerNorm)
