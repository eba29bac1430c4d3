"""Networks as ONNX models (extra `onnx`, which is imported where it is used).

A model is a fastnn.MLP, or a fitted MLPClassifier or MLPRegressor.
"""

from typing import Any

import numpy as np

from fastnn.files.networks import network
from fastnn.model import MLP
from kernels.activations import ACTIVATIONS
from kernels.layers import Normalization
from kernels.maths.functions import SERIES

OPSET, IR_VERSION = 17, 9


def to_onnx(model: Any) -> Any:
    """The model as an ONNX model. `onnx.save(to_onnx(model), path)` writes a file.

    Parameters
    ----------
    model : MLP, MLPClassifier or MLPRegressor
        A network or a fitted estimator.

    Returns
    -------
    onnx.ModelProto
        Its input is `X` (n, inputs), of the network's dtype. Of an MLP or a regressor the output is `y`, what `predict`
        returns. Of a classifier the outputs are `label` and `probabilities`, what `predict` and `predict_proba` return.

    Raises
    ------
    ImportError
        Without the extra `onnx`.
    TypeError
        For anything but a network or a fitted estimator.
    ValueError
        For class labels that ONNX has no type for, an activation without an ONNX form, and a network of `fastnn train`
        that takes rows that have been prepared.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("fastnn.to_onnx needs onnx: pip install 'fastnn-numba[onnx]'") from error
    net = network(model)
    graph = Graph(onnx, net.dtype)
    name = "X"
    for stage, (w, *vectors) in net.layout.arrays(net.parameters):
        if isinstance(stage.layer, Normalization):
            name = stage.layer.onnx(graph, name, w[0], *vectors)
        else:
            name = graph.node("Gemm", [name, *(graph.constant(array) for array in (w, *vectors))])
        name = graph.activate(stage.layer.activation, name)
    name = graph.activate_output(net.output, name)
    outputs = _classifier_outputs(graph, model, name) if hasattr(model, "classes_") else _outputs(graph, model, name)
    inputs = [onnx.helper.make_tensor_value_info("X", graph.real, [None, net.layers[0]])]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "fastnn", inputs, outputs, graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="fastnn",
    )  # fmt: skip
    onnx.checker.check_model(made, full_check=True)
    return made


class Graph:
    """An ONNX graph as it grows: nodes and constants with names of their own."""

    def __init__(self, onnx: Any, dtype: str) -> None:
        self.onnx, self.dtype = onnx, np.dtype(dtype)
        self.real = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add an operation; returns the name of its output."""
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        """Add an array, numbers in the network's dtype unless they are an array; returns its name."""
        name = f"constant_{len(self.constants)}"
        array = np.ascontiguousarray(value if isinstance(value, np.ndarray) else np.array(value, self.dtype))
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def activate(self, activation: str, z: str) -> str:
        """Add an activation of z."""
        form = ACTIVATIONS[activation].onnx
        if form is None:
            raise ValueError(f"activation {activation!r} has no ONNX form: make it with one, as onnx=")
        return self.node(form, [z]) if isinstance(form, str) else form(self, z)

    def activate_output(self, output: str, z: str) -> str:
        """Add an output activation of z."""
        if output == "softmax":
            return self.node("Softmax", [z], axis=1)
        return self.node("Exp", [z]) if output == "exp" else self.activate(output, z)

    def erf(self, x: str) -> str:
        """Add the error function of x: ONNX Runtime has Erf for float32 alone, float64 is of the kernels' series."""
        if self.dtype == "float32":
            return self.node("Erf", [x])
        size = self.node("Abs", [x])
        near = self.node("Mul", [x, self.series("erf", self.node("Mul", [x, x]))])
        b, centre = self.node("Min", [size, self.constant(6.0)]), self.constant(2.5)
        place = self.node("Div", [self.node("Sub", [b, centre]), self.node("Add", [b, centre])])
        decay = self.node("Exp", [self.node("Neg", [self.node("Mul", [b, b])])])
        beyond = self.node("Mul", [decay, self.series("erfc", place)])
        far = self.node("Mul", [self.node("Sign", [x]), self.node("Sub", [self.constant(1.0), beyond])])
        return self.node("Where", [self.node("Less", [size, self.constant(1.0)]), near, far])

    def series(self, name: str, x: str) -> str:
        """Add one of the kernels' series in x, by Horner's rule."""
        *terms, last = SERIES[self.dtype.name][name]
        value = self.constant(last)
        for term in reversed(terms):
            value = self.node("Add", [self.node("Mul", [value, x]), self.constant(term)])
        return value

    def output(self, name: str, kind: int, shape: list[int | None]) -> Any:
        """The description of an output."""
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)


def _outputs(graph: Graph, model: Any, name: str) -> list[Any]:
    n_outputs = network(model).layers[-1]
    if isinstance(model, MLP) or n_outputs > 1:
        graph.node("Identity", [name], "y")
        return [graph.output("y", graph.real, [None, n_outputs])]
    graph.node("Squeeze", [name, graph.constant(np.array([1]))], "y")
    return [graph.output("y", graph.real, [None])]


def _classifier_outputs(graph: Graph, model: Any, name: str) -> list[Any]:
    tensor, classes = graph.onnx.TensorProto, np.asarray(model.classes_)
    several = model._binarizer.y_type_.startswith("multilabel")
    if model.n_outputs_ == 1 and not several:
        name = graph.node("Concat", [graph.node("Sub", [graph.constant(1.0), name]), name], axis=1)
    graph.node("Identity", [name], "probabilities")
    probabilities = graph.output(
        "probabilities", graph.real, [None, model.n_outputs_ if several else max(2, len(classes))]
    )
    if several:
        right = graph.node("Greater", [name, graph.constant(0.5)])
        graph.node("Cast", [right], "label", to=tensor.INT64)
        return [graph.output("label", tensor.INT64, [None, model.n_outputs_]), probabilities]
    if classes.dtype.kind in "iub":
        classes = classes.astype({"b": np.bool_, "u": np.uint64}.get(classes.dtype.kind, np.int64))
        kind = graph.onnx.helper.np_dtype_to_tensor_dtype(classes.dtype)
    elif classes.dtype.kind in "UO" and all(isinstance(label, str) for label in classes):
        classes, kind = classes.astype(object), tensor.STRING
    elif classes.dtype.kind == "f":
        kind = graph.onnx.helper.np_dtype_to_tensor_dtype(classes.dtype)
    else:
        raise ValueError(f"classes must be numbers or text for ONNX, got dtype {classes.dtype}")
    largest = graph.node("ArgMax", [name], axis=1, keepdims=0)
    classes = np.resize(classes, max(2, len(classes)))  # a single class has two probabilities, as in scikit-learn
    graph.node("Gather", [graph.constant(classes), largest], "label")
    return [graph.output("label", kind, [None]), probabilities]
