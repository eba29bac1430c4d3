"""Networks in other libraries' forms: ONNX (extra `onnx`) and PyTorch. The libraries are imported where they are used.

A model is a fastnn.MLP, or a fitted MLPClassifier or MLPRegressor.
"""

from typing import Any

import numpy as np

from fastnn.inputs import check_raw
from fastnn.model import MLP
from kernels.activations import ACTIVATIONS
from kernels.maths.functions import SERIES

OPSET, IR_VERSION = 17, 9


def to_onnx(model: Any) -> Any:
    """The model as an onnx.ModelProto whose input is `X` (n, inputs), of the network's dtype.

    Of an MLP or a regressor the output is `y`, what `predict` returns; of a classifier they are `label` and
    `probabilities`, what `predict` and `predict_proba` return. `onnx.save(to_onnx(model), path)` writes a file.
    Raises ImportError without the extra `onnx`, ValueError for class labels that ONNX has no type for.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("fastnn.to_onnx needs onnx: pip install 'fastnn-numba[onnx]'") from error
    net = network(model)
    graph = Graph(onnx, net.dtype)
    name = "X"
    for n, activate in enumerate([*[graph.activate] * len(net.activations), graph.activate_output]):
        constants = [graph.constant(array) for array in (net.weights[n], *net.biases[n : n + 1])]
        name = activate([*net.activations, net.output][n], graph.node("Gemm", [name, *constants]))
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


def to_torch(model: Any) -> Any:
    """The network as a torch.nn.Sequential of its own weights' copies: Linear, activation, ..., output activation.

    Called on a tensor (n, inputs) it returns what `MLP.predict` does; with dropout, after `.eval()`. Raises ImportError
    without PyTorch, ValueError for exp outputs, for which torch.nn has no module.
    """
    torch, net, modules = _torch(), network(model), []
    if net.output == "exp":
        raise ValueError("model must have softmax, sigmoid or identity outputs for PyTorch, got exp")
    for n, w in enumerate(net.weights):
        linear = torch.nn.Linear(*w.shape, bias=net.bias, dtype=getattr(torch, net.dtype))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T.copy()))
            if net.bias:
                linear.bias.copy_(torch.from_numpy(net.biases[n].copy()))
        modules.append(linear)
        if n == len(net.activations) and net.output == "softmax":
            modules.append(torch.nn.Softmax(dim=1))
        else:
            modules += _modules(torch, [*net.activations, net.output][n])
        if n < len(net.dropout) and net.dropout[n]:
            modules.append(torch.nn.Dropout(net.dropout[n]))
    return torch.nn.Sequential(*modules)


def from_torch(module: Any, output: str | None = None, **options: Any) -> MLP:
    """A network with the weights of a torch.nn.Sequential of Linear layers, each but the last followed by at most one
    activation of those that fastnn has (docs/activations.md). Dropout after the first layer and before the last is the
    network's; elsewhere, where fastnn has none, it is passed over.

    output: the output activation, by default that of the last module: Softmax, Sigmoid, or none (identity). A module
    that ends in logits is given one: output="softmax". `options` are those of MLP, but for dtype and bias.
    Raises ImportError without PyTorch, TypeError or ValueError for any other module.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Sequential):
        raise TypeError(f"module must be a torch.nn.Sequential, got {type(module).__name__}")
    linear: list[Any] = []
    activations: list[str] = []
    rates: list[float] = []  # of dropout, after each layer
    for n, part in enumerate(part for part in module if not isinstance(part, torch.nn.Identity)):
        if isinstance(part, torch.nn.Dropout):
            rates[-1:] = [rate + part.p - rate * part.p for rate in rates[-1:]]
        elif isinstance(part, torch.nn.Linear):
            linear.append(part)
            activations.append("identity")
            rates.append(0.0)
        elif linear and activations[-1] == "identity":
            activations[-1] = _activation(torch, part, n)
        else:
            raise ValueError(f"module[{n}] must be a Linear layer, got {part}")
    if not linear:
        raise ValueError(f"module must hold at least one Linear layer, got {module}")
    if output is None:
        output = activations[-1]
    elif activations[-1] not in ("identity", output):
        raise ValueError(f"output must be {activations[-1]!r}, as the last module, or None, got {output!r}")
    bias = any(part.bias is not None for part in linear)
    layers = [linear[0].in_features, *(part.out_features for part in linear)]
    dtype = str(linear[0].weight.dtype).removeprefix("torch.")
    options = {"dropout": rates[:-1], **options}
    net = MLP(layers, activations[:-1], output, bias=bias, dtype=dtype, init="zeros", **options)
    for n, part in enumerate(linear):
        net.weights[n][...] = part.weight.detach().cpu().numpy().T
        if part.bias is not None:
            net.biases[n][...] = part.bias.detach().cpu().numpy()
    return net


def _modules(torch: Any, activation: str) -> list[Any]:
    """The module of an activation, none for the identity."""
    found = ACTIVATIONS[activation]
    if found.is_identity:
        return []
    if not found.torch:
        raise ValueError(f"activation {activation!r} has no PyTorch module: make it with the name of one, as torch=")
    return [getattr(torch.nn, found.torch)(**found.torch_arguments)]


def _activation(torch: Any, part: Any, n: int) -> str:
    """The name of an activation module."""
    known = {name: (found.torch, found.torch_arguments) for name in ACTIVATIONS if (found := ACTIVATIONS[name]).torch}
    known |= {"softmax": ("Softmax", {"dim": 1}), "softmax of rows": ("Softmax", {"dim": -1})}
    same = {name: having for name, (kind, having) in known.items() if type(part) is getattr(torch.nn, kind)}
    if not same:
        kinds = ", ".join(dict.fromkeys(kind for kind, _ in known.values()))
        raise ValueError(f"module[{n}] must be one of Linear, {kinds}, got {part}")
    for name, having in same.items():
        if all(getattr(part, attribute) == value for attribute, value in having.items()):
            return name.removesuffix(" of rows")
    wanted = " or ".join(" and ".join(f"{key} {value!r}" for key, value in having.items()) for having in same.values())
    raise ValueError(f"module[{n}] must have {wanted}, got {part}")


def network(model: Any) -> MLP:
    """The network that a model is or holds."""
    net = model if isinstance(model, MLP) else getattr(model, "network_", None)
    if not isinstance(net, MLP):
        raise TypeError(f"model must be a fastnn.MLP or a fitted estimator of fastnn, got {type(model).__name__}")
    check_raw(net.metadata)
    return net


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("this needs PyTorch: pip install torch") from error
    return torch
