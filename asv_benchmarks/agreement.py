"""How far the GPU's training is from the CPU's: a table by activation and optimiser, after one step and after many.

    python asv_benchmarks/agreement.py                        # on a GPU
    NUMBA_ENABLE_CUDASIM=1 python asv_benchmarks/agreement.py --layers 3,4,2 --rows 4 --steps 1,2     # without one

Both start from the same weights and make the same steps on the same batch. A number is the largest difference of a
parameter, relative to the largest change of one since the start, and behind it the relative difference of the loss.
Rounding alone makes these numbers: about 1e-6 after a step in float32, and more from step to step, most where the
activation has a kink, whose side an element may take on one device alone. With --precision the GPU multiplies on its
tensor cores, in layers of 32 or more inputs and outputs, and the numbers are what that costs beside the CPU's float32.
In the simulator, which rounds alike, 3e-4 after a step with tf32 and 2e-3 with bf16 (--layers 32,33,2 --rows 4
--steps 1 --activations relu --optimizers sgd).
"""

import argparse

import numpy as np
from compare import machine

import fastnn
from kernels import backends, devices
from kernels.activations import ACTIVATIONS

OPTIMIZERS = {
    "sgd": fastnn.SGD(0.05),
    "momentum": fastnn.SGD(0.05, momentum=0.9),
    "nesterov": fastnn.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": fastnn.Adam(0.001),
}


def difference(
    layers: list[int], activation: str, optimizer: str, dtype: str, precision: str, rows: int, steps: int
) -> tuple[float, float]:
    """Of parameters and of the last loss."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows, layers[0])), rng.integers(0, layers[-1], rows)
    reached = []
    for where in ({"device": "cpu"}, {"device": "cuda", "precision": precision}):
        net = fastnn.MLP(layers, activation=activation, dtype=dtype, seed=0, **where)
        start = net.parameters.copy()
        history = net.fit(
            X, y, epochs=steps, batch_size=rows, optimizer=OPTIMIZERS[optimizer], shuffle=False, progress=False
        )
        reached.append((net.parameters.astype(np.float64), history.loss[-1]))
    (on_cpu, loss), (on_cuda, other) = reached
    return np.abs(on_cuda - on_cpu).max() / np.abs(on_cpu - start).max(), abs(other - loss) / loss


def numbers(text: str) -> list[int]:
    """1,100 as numbers."""
    return [int(n) for n in text.split(",")]


def main() -> None:
    """Print the table, line by line as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=numbers, default=[100, 200, 64, 10], metavar="100,200,64,10")
    parser.add_argument("--rows", type=int, default=256, help="of a batch")
    parser.add_argument("--steps", type=numbers, default=[1, 100], metavar="1,100")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--precision", choices=devices.PRECISIONS, default="float32", help="the GPU's")
    parser.add_argument("--activations", nargs="+", choices=[*ACTIVATIONS], default=[*ACTIVATIONS], metavar="NAME")
    parser.add_argument("--optimizers", nargs="+", choices=list(OPTIMIZERS), default=list(OPTIMIZERS), metavar="NAME")
    args = parser.parse_args()
    try:
        backends.check_precision(args.precision, devices.device("cuda"))
    except (ImportError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    print(machine(1, "cuda"))
    kind = args.dtype if args.precision == "float32" else f"{args.precision} beside {args.dtype}"
    print(f"layers {args.layers}, {args.rows} rows, {kind}: difference of parameters, of the loss\n")
    print("| activation | optimizer |" + "".join(f" {n} step{'s' * (n > 1)} |" for n in args.steps))
    print("|---" * (2 + len(args.steps)) + "|")
    for activation in args.activations:
        for optimizer in args.optimizers:
            case = args.layers, activation, optimizer, args.dtype, args.precision, args.rows
            found = [difference(*case, n) for n in args.steps]
            cells = "".join(f" {parameters:.1e}, {loss:.1e} |" for parameters, loss in found)
            print(f"| {activation} | {optimizer} |{cells}", flush=True)


if __name__ == "__main__":
    main()
