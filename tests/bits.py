"""Hashes of what networks, estimators and kernels compute, a line each: a change of form alone changes none of them.

Usage: python -m tests.bits [FILTER] > FILE, in the tree before the change and in the one after it, then diff. Bits
differ between instruction sets (NUMBA_CPU_NAME), not between numbers of threads.
"""

import hashlib
import sys
import warnings

import numpy as np

import fastnn
import kernels

# widths, rows, batch
NETWORKS = {
    "moons": ((2, 25, 50, 50, 25, 1), 300, 300),
    "digits": ((400, 25, 10), 500, 500),
    "small": ((64, 64, 64, 10), 320, 32),
    "mnist": ((784, 256, 128, 10), 512, 128),
    "wide": ((300, 700, 520, 10), 600, 512),
    "narrow": ((10, 10, 10, 2), 640, 32),
    "deep": ((32, *(64,) * 8, 10), 256, 64),
    "odd": ((57, 93, 31, 7), 451, 41),
    "row": ((30, 50, 2), 100, 1),
    "batch": ((64, 256, 256, 10), 4096, 4096),
    "single": ((5, 1), 33, 10),
    "prime": ((17, 131, 3), 200, 67),
    "none": ((20, 3), 100, 32),
}
OPTIMIZERS = {
    "sgd": fastnn.SGD(0.01), "momentum": fastnn.SGD(0.01, momentum=0.9), "nesterov": fastnn.SGD(0.01, 0.9, True),
    "adam": fastnn.Adam(1e-3), "clipped": fastnn.Adam(1e-3, clip_norm=0.1),
}  # fmt: skip
LOSSES = (
    "softmax_cross_entropy", "sigmoid_cross_entropy", "mean_squared_error", "sum_squared_error", "poisson",
    "absolute_error", "huber", "quantile",
)  # fmt: skip
LOSS_PARAMETERS = {"huber": ("delta", 0.7), "quantile": ("level", 0.9)}
ACTIVATIONS = ("identity", "relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu")


def digest(*values):
    """The first half of a hash of arrays' and numbers' bytes."""
    found = hashlib.sha256()
    for value in values:
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()[:16]


def data(layers, rows, dtype, output):
    """X, and targets that the output takes."""
    random = np.random.default_rng(7)
    X = random.standard_normal((rows, layers[0])).astype(dtype)
    if output == "softmax":
        return X, random.integers(0, layers[-1], rows)
    y = random.standard_normal((rows, layers[-1])).astype(dtype)
    return X, {"identity": y, "sigmoid": (y > 0).astype(dtype), "exp": np.abs(y)}[output]


def network(layers, rows, batch, dtype, threads, *, output=None, optimizer="adam", epochs=2, **options):
    """(name of the result, hash) of what a network computes before, in and after training."""
    fits = {name: options.pop(name) for name in ("l2", "loss", "shuffle", "validation_split") if name in options}
    weighted = options.pop("weighted", False)
    output = output or ("sigmoid" if layers[-1] == 1 else "softmax")
    X, y = data(layers, rows, dtype, output)
    net = fastnn.MLP(layers, output=output, dtype=dtype, threads=threads, seed=3, device="cpu", **options)
    loss, w, b, dx = net.loss_and_gradients(X[:batch], y[:batch])
    yield "gradients", digest(loss, *w, *b, dx)
    if weighted:
        fits["sample_weight"] = np.random.default_rng(8).random(rows)
    history = net.fit(X, y, epochs, batch, OPTIMIZERS[optimizer], progress=False, **fits)
    yield "fit", digest(net.parameters, history.loss)
    if history.val_loss:
        yield "validation", digest(history.val_loss)
    yield "evaluate", digest(*net.evaluate(X, y).values())
    yield "predict", digest(net.predict(X))
    yield "predict one", digest(net.predict(X[:1]))
    yield "train_on_batch", digest(*net.train_on_batch(X[:batch], y[:batch], OPTIMIZERS[optimizer]).values())
    yield "after it", digest(net.parameters)


def networks():
    """Of each network with each dtype and number of threads, and of what else there is to ask for."""
    for dtype in ("float32", "float64"):
        for threads in (1, 2):
            for name, sizes in NETWORKS.items():
                optimizer = list(OPTIMIZERS)[len(name) % len(OPTIMIZERS)]
                yield f"{name} {dtype} {threads} {optimizer}", network(*sizes, dtype, threads, optimizer=optimizer)
            few = (19, 33, 18, 5), 150, 40
            for optimizer in OPTIMIZERS:
                yield f"{optimizer} {dtype} {threads}", network(*few, dtype, threads, optimizer=optimizer, l2=0.01)
            for activation in ACTIVATIONS:
                yield f"{activation} {dtype} {threads}", network(*few, dtype, threads, activation=activation)
            for output in ("identity", "sigmoid", "exp"):
                yield f"{output} {dtype} {threads}", network(*few, dtype, threads, output=output, weighted=True)
            for loss in ("absolute_error", ("huber", 0.7), ("quantile", 0.9), "sum_squared_error"):
                case = network(*few, dtype, threads, output="identity", loss=loss, optimizer="sgd")
                yield f"{loss} {dtype} {threads}", case
            more = {"dropout": 0.3, "bias": False, "weighted": True, "l2": 0.1, "validation_split": 0.2}
            yield f"dropout {dtype} {threads}", network(*few, dtype, threads, optimizer="clipped", **more)
            yield f"no order {dtype} {threads}", network(*few, dtype, threads, shuffle=False)
    for threads in (1, 2):
        for name in ("mnist", "wide", "small"):
            yield f"{name} bf16 {threads}", network(*NETWORKS[name], "float32", threads, precision="bf16")


def estimators():
    """Of each solver."""
    for solver in ("sgd", "adam", "lbfgs"):
        for kind, output in ((fastnn.MLPClassifier, "softmax"), (fastnn.MLPRegressor, "identity")):
            X, y = data((12, 3), 240, "float64", output)
            found = kind(
                hidden_layer_sizes=(16,), solver=solver, max_iter=15, random_state=1, early_stopping=solver == "sgd"
            ).fit(X, y)
            yield f"{kind.__name__} {solver}", [("fit", digest(*found.coefs_, *found.intercepts_, found.predict(X)))]


def functions():
    """Of the public kernels, at sizes that no tile divides."""
    for dtype in ("float32", "float64"):
        for rows, columns in ((1, 1), (3, 17), (70, 33), (130, 257)):
            random, size = np.random.default_rng(9), f"{dtype} {rows}x{columns}"
            z, t, dy = random.standard_normal((3, rows, columns)).astype(dtype)
            x, w, weight = (
                random.standard_normal((rows, 45)).astype(dtype),
                random.standard_normal((45, columns)),
                t[:, 0],
            )
            w, weight = w.astype(dtype), np.abs(weight)
            for name in ACTIVATIONS:
                pre = np.empty_like(z)
                y = kernels.linear(x, w, t[0], name, pre=pre)
                back = kernels.linear_backward(dy, x, w, y, name, pre=pre)
                yield f"linear {name} {size}", [("all", digest(y, pre, *back, kernels.activate(z, name)))]
            for name in LOSSES:
                target = np.abs(t) / np.abs(t).max() if "cross" in name or name == "poisson" else t
                options = dict([LOSS_PARAMETERS[name]]) if name in LOSS_PARAMETERS else {}
                yield f"{name} {size}", [("all", digest(*getattr(kernels, name)(z, target, weight, **options)))]
            kernels.sgd(z, dy, t, learning_rate=0.1, momentum=0.9, nesterov=True)
            kernels.adam(w, w[::-1].copy(), *np.abs(random.standard_normal((2, 45, columns)).astype(dtype)), step=3)
            yield f"updates {size}", [("all", digest(z, t, w, kernels.softmax(z)))]


def main(wanted=""):
    """Print the lines whose names hold `wanted`."""
    warnings.simplefilter("ignore")
    for group in (functions, networks, estimators):
        for name, results in group():
            if wanted not in name:
                continue
            try:
                for what, found in results:
                    print(f"{name} | {what} | {found}", flush=True)
            except ValueError as error:  # no unit for bf16, say
                print(f"{name} | {error}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
