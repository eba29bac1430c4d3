"""A network as engines take it: a list of layers, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kernels.layers import NORMS, Activated, Dense, Dropout, Layer


@dataclass(frozen=True)
class Stage:
    """A layer with parameters where it stands in a network, with the activation and the dropout that follow it.

    inputs, outputs: of a row. dropout: a rate, 0 for none.
    """

    layer: Activated
    inputs: int
    outputs: int
    dropout: float = 0.0

    @property
    def w_rows(self) -> int:
        """The rows of w."""
        return self.layer.w_rows(self.inputs)

    @property
    def is_dense(self) -> bool:
        """Whether this is a product with a matrix."""
        return isinstance(self.layer, Dense)


@dataclass(frozen=True)
class Network:
    """inputs: of a row. layers: in their order, the last one dense. output: the output activation's name.

    stages: the layers with parameters, each with what follows it. products: (inputs, outputs) of the dense ones.
    widths: those of the inputs and of each dense layer's outputs.
    """

    inputs: int
    layers: tuple[Layer, ...]
    output: str = "softmax"
    stages: tuple[Stage, ...] = field(init=False, compare=False, repr=False)
    products: tuple[tuple[int, int], ...] = field(init=False, compare=False, repr=False)
    widths: tuple[int, ...] = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        stages: list[Stage] = []
        width = self.inputs
        for layer in self.layers:
            if isinstance(layer, Dropout):
                stages[-1] = replace(stages[-1], dropout=layer.rate)
            elif isinstance(layer, Activated):
                stages.append(Stage(layer, width, layer.width(width)))
            width = stages[-1].outputs
        products = tuple((stage.inputs, stage.outputs) for stage in stages if stage.is_dense)
        found = {
            "stages": tuple(stages), "products": products, "widths": (self.inputs, *(o for _, o in products)),
            "_hash": hash((self.inputs, self.layers, self.output)),
        }  # fmt: skip
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def __hash__(self) -> int:
        """Made once: schedules are looked up by the network for every row that is predicted."""
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickles of it say: the hash of a text is another one in another process."""
        return Network, (self.inputs, self.layers, self.output)

    @property
    def n_weights(self) -> int:
        """The elements of all dense layers' w, which are the multiply-adds of a row forward."""
        return sum(inputs * outputs for inputs, outputs in self.products)


def perceptron(
    widths: Sequence[int],
    activations: Sequence[str] = (),
    output: str = "softmax",
    *,
    bias: bool = True,
    dropout: Sequence[float] = (),
    norm: str | None = None,
) -> Network:
    """A multilayer perceptron of these widths, of input, hidden layers and output.

    activations, dropout: of each hidden layer; or nothing. norm: what normalises the hidden layers before their
    activations, a name of layers.NORMS.
    """
    layers: list[Layer] = []
    for n, outputs in enumerate(widths[1:]):
        activation = activations[n] if n < len(activations) else "identity"
        if norm and n < len(widths) - 2:
            layers += [Dense(outputs=outputs, bias=bias), NORMS[norm](activation=activation)]
        else:
            layers.append(Dense(outputs=outputs, activation=activation, bias=bias))
        if n < len(dropout) and dropout[n]:
            layers.append(Dropout(dropout[n]))
    return Network(widths[0], tuple(layers), output)
