"""The same network in plain NumPy, as the articles write it: dictionaries by layer, one Python function per formula.

Columns are examples here and weights are (outputs, inputs), as in Piotr Skalski's "Let's code a neural network in plain
NumPy", whose system the recipe `moons` runs. It is what fastnn is compared with, so it is left as simple as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Architecture = Sequence[Mapping[str, Any]]
Parameters = dict[str, np.ndarray]


def train(
    architecture: Architecture, X: np.ndarray, y: np.ndarray, epochs: int, rate: float, seed: int
) -> tuple[Parameters, list[float]]:
    """Full-batch gradient descent on binary cross-entropy: the parameters, and the loss of each epoch.

    X (inputs, examples), y (1, examples); ReLU in hidden layers, a sigmoid at the end, everything in float64.
    """
    parameters = initial(architecture, seed)
    losses = []
    for _ in range(epochs):
        outputs, memory = forward(architecture, parameters, X)
        losses.append(cross_entropy(outputs, y))
        for name, gradient in backward(architecture, parameters, memory, outputs, y).items():
            parameters[name] -= rate * gradient
    return parameters, losses


def initial(architecture: Architecture, seed: int) -> Parameters:
    """Weights and biases from a normal distribution of standard deviation 0.1."""
    random = np.random.default_rng(seed)
    parameters = {}
    for n, layer in enumerate(architecture):
        parameters[f"w{n}"] = 0.1 * random.standard_normal((layer["output_dim"], layer["input_dim"]))
        parameters[f"b{n}"] = 0.1 * random.standard_normal((layer["output_dim"], 1))
    return parameters


def forward(architecture: Architecture, parameters: Parameters, X: np.ndarray) -> tuple[np.ndarray, Parameters]:
    """The outputs (1, examples), and each layer's inputs a and pre-activations z for the way back."""
    a, memory = X, {}
    for n, layer in enumerate(architecture):
        memory[f"a{n}"] = a
        z = memory[f"z{n}"] = parameters[f"w{n}"] @ a + parameters[f"b{n}"]
        a = np.maximum(0, z) if layer["activation"] == "relu" else sigmoid(z)
    return a, memory


def backward(
    architecture: Architecture, parameters: Parameters, memory: Parameters, outputs: np.ndarray, y: np.ndarray
) -> Parameters:
    """The gradient of the loss for each parameter, by the chain rule from the last layer to the first."""
    gradients = {}
    da = (1 - y) / (1 - outputs) - y / outputs
    for n, layer in reversed([*enumerate(architecture)]):
        z = memory[f"z{n}"]
        dz = da * (z > 0) if layer["activation"] == "relu" else da * sigmoid(z) * (1 - sigmoid(z))
        gradients[f"w{n}"] = dz @ memory[f"a{n}"].T / y.shape[1]
        gradients[f"b{n}"] = dz.sum(axis=1, keepdims=True) / y.shape[1]
        da = parameters[f"w{n}"].T @ dz
    return gradients


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


def cross_entropy(outputs: np.ndarray, y: np.ndarray) -> float:
    """Binary cross-entropy, its mean over the examples."""
    return float(-(y * np.log(outputs) + (1 - y) * np.log(1 - outputs)).mean())


def accuracy(outputs: np.ndarray, y: np.ndarray) -> float:
    """The share of examples on the right side of 1/2."""
    return float(((outputs > 0.5) == y).mean())
