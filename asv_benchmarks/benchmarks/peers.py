"""The libraries that fastnn is set beside: each trains and runs one workload, in the form that is fastest there.

All start from fastnn's initial weights. `train(epochs)` makes that many passes over the rows in order, batch by batch,
and returns when the results are there; `predictor(X)` makes the call that runs the network on X, from the host's memory
and back; `weights()` gives back what was learned, [(w (I, O), b (O,))]. Hidden activations are ReLU, arrays float32 (on
a GPU without TF32, unless that is asked for). What runs on a GPU too names it in `devices`; there the data lie on it
before training begins.
"""

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .devices import placed
from .peer import Peer, Weights
from .peers_torch import Torch, TorchCompiled, TorchGraphs
from .workloads import Workload


class Fastnn(Peer):
    """This project."""

    devices = ("cpu", "cuda")
    precisions = ("float32", "tf32", "bf16")

    def prepare(self) -> None:
        """It is what all others start from."""
        self.model = self.workload.model(self.threads, self.device)
        self.data = placed(self.device, self.X, self.y)

    def train(self, epochs: int) -> None:
        self.model.fit(
            *self.data, epochs, self.workload.batch_size, self.workload.optimizer, shuffle=False, progress=False
        )

    def weights(self) -> Weights:
        return list(zip(self.model.weights, self.model.biases))

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        return lambda: self.model.predict(X)


class FastnnFloat32(Fastnn):
    """The same in float32, beside other precisions."""

    precisions = ("tf32", "bf16")

    def prepare(self) -> None:
        self.workload = replace(self.workload, precision="float32")
        super().prepare()


class PlainNumpy(Peer):
    """Forward, backward and update as the articles write them, in float32."""

    def prepare(self) -> None:
        self.layers = [[w.copy(), b.copy()] for w, b in self.initial]
        self.state = [[[np.zeros_like(p), np.zeros_like(p)] for p in layer] for layer in self.layers]
        self.step = 0
        outputs = self.workload.layers[-1]
        self.target = self.y[:, np.newaxis] if self.sigmoid else np.eye(outputs)[self.y]
        self.target = self.target.astype(np.float32)

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        activations = [x]
        for w, b in self.layers[:-1]:
            activations.append(np.maximum(activations[-1] @ w + b, 0))
        w, b = self.layers[-1]
        z = activations[-1] @ w + b
        if self.sigmoid:
            activations.append(1 / (1 + np.exp(-z)))
        else:
            e = np.exp(z - z.max(axis=1, keepdims=True))
            activations.append(e / e.sum(axis=1, keepdims=True))
        return activations

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            for start in self.starts:
                rows = slice(start, start + self.workload.batch_size)
                activations = self.forward(self.X[rows])
                dz = (activations[-1] - self.target[rows]) / len(activations[-1])
                self.step += 1
                for n in range(len(self.layers) - 1, -1, -1):
                    gradients = activations[n].T @ dz, dz.sum(axis=0)
                    if n:
                        dz = (dz @ self.layers[n][0].T) * (activations[n] > 0)
                    for i, gradient in enumerate(gradients):
                        self.layers[n][i] -= self.update(self.state[n][i], gradient)

    def update(self, state: list[np.ndarray], g: np.ndarray) -> np.ndarray:
        if not self.adam:
            return np.float32(self.rate) * g
        rule = self.workload.optimizer
        state[0] = rule.beta1 * state[0] + (1 - rule.beta1) * g
        state[1] = rule.beta2 * state[1] + (1 - rule.beta2) * g * g
        m, v = state[0] / (1 - rule.beta1**self.step), state[1] / (1 - rule.beta2**self.step)
        return self.rate * m / (np.sqrt(v) + rule.epsilon)

    def weights(self) -> Weights:
        return [(w, b) for w, b in self.layers]

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        return lambda: self.forward(X)[-1]


class ScikitLearn(Peer):
    """MLPClassifier; its own weights replaced by the given ones after a first pass that shapes it."""

    def prepare(self) -> None:
        from sklearn.neural_network import MLPClassifier, _multilayer_perceptron

        warnings.simplefilter("ignore")  # it has not converged
        _multilayer_perceptron.AdamOptimizer = _adam_of_scikit_learn(_multilayer_perceptron.AdamOptimizer)
        outputs, rule = self.workload.layers[-1], self.workload.optimizer
        # Two classes would be one sigmoid; as two labels they have two outputs, which become a softmax
        self.target = np.eye(2, dtype=int)[self.y] if outputs == 2 else self.y
        self.model = MLPClassifier(
            self.workload.layers[1:-1], solver="adam" if self.adam else "sgd", alpha=0.0, momentum=0.0,
            nesterovs_momentum=False, learning_rate_init=self.rate, batch_size=self.workload.batch_size,
            shuffle=False, max_iter=1, n_iter_no_change=10**9, warm_start=True, random_state=0,
            epsilon=rule.epsilon if self.adam else 1e-8,
        ).fit(self.X, self.target)  # fmt: skip
        self.model.out_activation_ = "logistic" if self.sigmoid else "softmax"
        self.model.coefs_ = [w.copy() for w, _ in self.initial]
        self.model.intercepts_ = [b.copy() for _, b in self.initial]

    def train(self, epochs: int) -> None:
        self.model.max_iter = epochs
        self.model.fit(self.X, self.target)

    def weights(self) -> Weights:
        return list(zip(self.model.coefs_, self.model.intercepts_))

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        return lambda: self.model.predict_proba(X)


def _adam_of_scikit_learn(base: Any) -> Any:
    """scikit-learn's Adam with epsilon beside the root of the corrected v, as Kingma and Ba, algorithm 1, have it
    and all but scikit-learn and Keras: theirs is another training, and where gradients are tiny not even near."""

    class Adam(base):
        @property
        def epsilon(self) -> float:
            return float(self.given * np.sqrt(1 - self.beta_2**self.t))

        @epsilon.setter
        def epsilon(self, value: float) -> None:
            self.given = value

    return Adam


class Jax(Peer):
    """JAX: all epochs are one jitted loop of scans over the batches, with the buffers donated."""

    devices = ("cpu", "cuda")
    precisions = ("float32", "tf32")

    def prepare(self) -> None:
        os.environ |= {"JAX_PLATFORMS": self.device, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        import jax
        import jax.numpy as jnp

        precision = "tensorfloat32" if self.workload.precision == "tf32" else "float32"
        jax.config.update("jax_default_matmul_precision", precision)  # a GPU's default is TF32
        self.jax, rule = jax, self.workload.optimizer
        size = self.workload.batch_size
        n = self.workload.rows // size
        x, x_rest = jnp.split(jnp.asarray(self.X), [n * size])  # a scan takes batches of one size
        y, y_rest = jnp.split(jnp.asarray(self.y), [n * size])
        parameters = [(jnp.asarray(w), jnp.asarray(b)) for w, b in self.initial]
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        sigmoid, rate, adam = self.sigmoid, self.rate, self.adam
        self.state = parameters, zeros, jax.tree.map(jnp.zeros_like, parameters), jnp.zeros((), jnp.int32)

        def forward(parameters: Any, x: Any) -> Any:
            for w, b in parameters[:-1]:
                x = jax.nn.relu(x @ w + b)
            w, b = parameters[-1]
            return x @ w + b

        def loss(parameters: Any, x: Any, y: Any) -> Any:
            z = forward(parameters, x)
            if sigmoid:
                return jnp.mean(jnp.logaddexp(0, z[:, 0]) - z[:, 0] * y)
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1))

        def step(state: Any, batch: Any) -> Any:
            parameters, m, v, t = state
            gradient = jax.grad(loss)(parameters, *batch)
            t = t + 1
            if not adam:
                return (jax.tree.map(lambda p, g: p - rate * g, parameters, gradient), m, v, t), None
            m = jax.tree.map(lambda m, g: rule.beta1 * m + (1 - rule.beta1) * g, m, gradient)
            v = jax.tree.map(lambda v, g: rule.beta2 * v + (1 - rule.beta2) * g * g, v, gradient)
            c1, c2 = (-jnp.expm1(t * np.log(beta)) for beta in (rule.beta1, rule.beta2))  # 1 - beta**t, exactly
            parameters = jax.tree.map(
                lambda p, m, v: p - rate * (m / c1) / (jnp.sqrt(v / c2) + rule.epsilon), parameters, m, v
            )
            return (parameters, m, v, t), None

        self.data = (x.reshape(n, size, -1), y.reshape(n, size)), [(x_rest, y_rest)] if len(x_rest) else []
        # With four steps a round of the loop one-row takes 0.81 of the time, small32 1.2. All epochs in one call: moons
        # 0.80 (2 cores of an Intel Xeon with AVX-512 and AMX, JAX 0.10.2)
        unroll = 4 if size == 1 else 1

        def epoch(state: Any, batches: Any, rest: Any) -> Any:
            state = jax.lax.scan(step, state, batches, unroll=unroll)[0]
            return step(state, *rest)[0] if rest else state

        def fit(state: Any, epochs: int, *data: Any) -> Any:
            return jax.lax.fori_loop(0, epochs, lambda _, state: epoch(state, *data), state)

        self.fit = jax.jit(fit, donate_argnums=0)
        last = jax.nn.sigmoid if sigmoid else jax.nn.softmax
        self.run = jax.jit(lambda parameters, x: last(forward(parameters, x)))

    def train(self, epochs: int) -> None:
        self.state = self.fit(self.state, epochs, *self.data)
        self.jax.block_until_ready(self.state)

    def weights(self) -> Weights:
        return [(np.asarray(w), np.asarray(b)) for w, b in self.state[0]]

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        return lambda: np.asarray(self.run(self.state[0], X))


class Keras(Peer):
    """Keras on JAX, compiled, with a whole epoch of steps in one execution."""

    def prepare(self) -> None:
        os.environ |= {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        import keras

        rule = self.workload.optimizer
        layers = [keras.Input((self.workload.layers[0],))]
        layers += [keras.layers.Dense(width, activation="relu") for width in self.workload.layers[1:-1]]
        layers.append(keras.layers.Dense(self.workload.layers[-1], activation=self.workload.output))
        self.model = keras.Sequential(layers)
        self.model.set_weights([array for layer in self.initial for array in layer])
        if self.adam:
            optimizer = _adam_of_keras(keras)(self.rate, rule.beta1, rule.beta2, rule.epsilon)
        else:
            optimizer = keras.optimizers.SGD(self.rate)
        loss = "binary_crossentropy" if self.sigmoid else "sparse_categorical_crossentropy"
        self.model.compile(optimizer, loss, jit_compile=True, steps_per_execution=len(self.starts))

    def train(self, epochs: int) -> None:
        self.model.fit(self.X, self.y, batch_size=self.workload.batch_size, epochs=epochs, shuffle=False, verbose=0)

    def weights(self) -> Weights:
        arrays = self.model.get_weights()
        return list(zip(arrays[::2], arrays[1::2]))

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        return lambda: np.asarray(self.model.predict_on_batch(X))


def _adam_of_keras(keras: Any) -> Any:
    """Keras' Adam with epsilon where scikit-learn's has it above, and 1 - beta**t as it is: Keras takes beta**t in
    float32 from 1, which at first is off by 6e-5, and training deep networks by a hundredth of the loss."""

    class Adam(keras.optimizers.Adam):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            ops, given, t = keras.ops, self.epsilon, keras.ops.cast(self.iterations + 1, variable.dtype)
            c1, c2 = (-ops.expm1(t * math.log(beta)) for beta in (self.beta_1, self.beta_2))
            theirs = ops.sqrt(1 - ops.power(self.beta_2, t)) / (1 - ops.power(self.beta_1, t))
            self.epsilon = given * ops.sqrt(c2)
            super().update_step(gradient, variable, learning_rate * ops.sqrt(c2) / c1 / theirs)
            self.epsilon = given

    return Adam


class OnnxRuntime(Peer):
    """ONNX Runtime, for running alone."""

    train = None

    def prepare(self) -> None:
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        nodes, tensors, name = [], [], "x"
        for n, (w, b) in enumerate(self.initial):
            tensors += [numpy_helper.from_array(w, f"w{n}"), numpy_helper.from_array(b, f"b{n}")]
            nodes.append(helper.make_node("Gemm", [name, f"w{n}", f"b{n}"], [f"z{n}"]))
            final = n == len(self.initial) - 1
            kind = self.workload.output.capitalize() if final else "Relu"
            nodes.append(helper.make_node(kind, [f"z{n}"], ["y" if final else f"a{n}"]))
            name = f"a{n}"
        widths = self.workload.layers
        graph = helper.make_graph(
            nodes, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, widths[0]])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, widths[-1]])], tensors,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def weights(self) -> Weights:
        return self.initial

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        from onnxruntime import OrtValue

        # Arrays bound once: 0.87 of the time of `run` at one row of mnist (2 cores of an Intel Xeon with AVX-512)
        x, y = OrtValue.ortvalue_from_numpy(X), np.empty((len(X), self.workload.layers[-1]), np.float32)
        y = OrtValue.ortvalue_from_numpy(y)
        binding = self.session.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_output("y", y)

        def call() -> np.ndarray:
            x.update_inplace(X)
            self.session.run_with_iobinding(binding)
            return y.numpy()

        return call


PEERS: dict[str, type[Peer]] = {
    "fastnn": Fastnn,
    "fastnn float32": FastnnFloat32,
    "JAX": Jax,
    "PyTorch": Torch,
    "PyTorch compiled": TorchCompiled,
    "PyTorch graphs": TorchGraphs,
    "Keras": Keras,
    "scikit-learn": ScikitLearn,
    "NumPy": PlainNumpy,
    "ONNX Runtime": OnnxRuntime,
}
OTHERS = ["NumPy", "JAX", "PyTorch", "PyTorch compiled", "Keras", "scikit-learn", "ONNX Runtime"]  # on the CPU


def peer_or_skip(name: str, workload: Workload) -> Peer:
    """A peer at work on all cores; where its library is missing, skip the benchmark whose `setup` calls this."""
    try:
        return PEERS[name](workload, len(os.sched_getaffinity(0)))
    except ModuleNotFoundError as error:
        raise NotImplementedError(f"{error.name} is not installed") from error
