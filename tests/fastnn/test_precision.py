"""Products in bfloat16 on the CPU, as a user meets them."""

import numpy as np
import pytest

import fastnn
from fastnn import MLP, profile
from fastnn.network import base
from kernels import cpu
from kernels.cpu.compiler import jit
from kernels.cpu.ir.instruction_sets import bf16_unit
from kernels.cpu.product.gemm_bf16 import gemm_amx, gemm_dot, gemm_split
from tests.oracle import random_labels
from tests.programs import environment, run

pytestmark = pytest.mark.skipif(not bf16_unit(), reason="this CPU has no AVX512-BF16")


def clouds(rows=600, inputs=70, classes=4):
    """Rows around a centre for each class."""
    random, y = np.random.default_rng(0), random_labels(1, rows, classes)
    return (random.normal(0, 1, (classes, inputs))[y] + random.normal(0, 1, (rows, inputs))).astype(np.float32), y


def test_it_learns_what_float32_learns():
    X, y = clouds()
    models = {name: MLP([70, 100, 64, 4], seed=0, precision=name) for name in ("float32", "bf16")}
    losses = {name: model.fit(X, y, 5, progress=False).loss for name, model in models.items()}
    np.testing.assert_allclose(losses["bf16"], losses["float32"], rtol=0.02, atol=1e-3)
    assert losses["bf16"] != losses["float32"]
    assert losses["bf16"][-1] < 0.1 * losses["bf16"][0]
    assert models["bf16"].evaluate(X, y)["accuracy"] > 0.98


def test_a_row_comes_out_the_same_alone_and_among_others():
    X, _ = clouds()
    model = MLP([70, 100, 64, 4], seed=0, precision="bf16")
    outputs = model.predict(X)
    for row in (0, 17, 599):
        np.testing.assert_array_equal(model.predict(X[row : row + 1])[0], outputs[row])


def rounded(x):
    """x to the nearest bfloat16, ties to even; float64."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_equal_rows_of_one_call_come_out_equal(precision, monkeypatch):
    monkeypatch.setattr(base, "FORWARD_BLOCK", 1 << 30)
    model = MLP([784, 256, 128, 10], seed=0, precision=precision, device="cpu")
    row = np.random.default_rng(0).standard_normal((1, 784)).astype(np.float32)
    rows = np.tile(row, (10_000, 1))  # in several parts, of which the last is smaller
    assert len({part.stop - part.start for part in model.blocks(len(rows))}) > 1
    assert len(np.unique(model.predict(rows), axis=0)) == 1


def test_gradients_are_those_of_rounded_factors():
    X, y = clouds()
    model = MLP([70, 100, 64, 128], seed=0, precision="bf16")  # no layer too small for it
    loss, dw, db, dx = model.loss_and_gradients(X, y)
    inputs = [X]
    for n, (w, b) in enumerate(zip(model.weights, model.biases, strict=True)):
        z = rounded(inputs[-1]) @ rounded(w) + b
        inputs.append(np.maximum(z, 0) if n < 2 else z)
    p = np.exp(inputs.pop() - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.log(p[np.arange(600), y]).mean(), rel=1e-5)
    dz = (p - np.eye(128)[y]) / 600
    for n in (2, 1, 0):
        # float32 sums differ from these by some 2^-22, and one in some 2^13 factors rounds to the other side
        for actual, expected in ((dw[n], rounded(inputs[n]).T @ rounded(dz)), (db[n], dz.sum(axis=0))):
            assert np.linalg.norm(actual - expected) < 2.0**-14 * np.linalg.norm(expected)
        dz = rounded(dz) @ rounded(model.weights[n]).T * (inputs[n] > 0 if n else 1)
    assert np.linalg.norm(dx - dz) < 2.0**-14 * np.linalg.norm(dz)


def test_files_and_words(tmp_path, capsys):
    model = MLP([70, 64, 4], seed=0, precision="bf16", device="cpu")
    model.save(tmp_path / "model.npz")
    loaded = fastnn.load(tmp_path / "model.npz", device="cpu")
    assert loaded.precision == "bf16"
    X, _ = clouds()
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    loaded.summary()
    assert "products in bf16" in capsys.readouterr().out


def test_profile_measures_them_by_their_own_ceiling(monkeypatch):
    monkeypatch.setattr(profile, "SECONDS", 0.0)
    monkeypatch.setattr(profile, "ROUND_SECONDS", 1e-9)
    found = MLP([70, 100, 4], seed=0, precision="bf16", device="cpu").profile(*clouds(), batch_size=50)
    assert "FLOP/s in large products, " in str(found)
    rows = {(row.layer, row.phase): row for row in found.rows}
    for layer, ceiling in ((1, found.product_flops), (2, found.flops)):  # the second layer has 400 weights
        row = rows[layer, "dw"]
        least = max(row.operations / ceiling, row.bytes / found.bandwidth)
        assert row.roofline == pytest.approx(least / row.seconds)
    assert MLP([70, 100, 4], seed=0, device="cpu").profile(*clouds(), batch_size=50).product_flops == 0


def test_warmup_compiles_them(monkeypatch):
    loaded = []
    monkeypatch.setattr(jit.Kernel, "load", lambda kernel: loaded.append(kernel.family))
    monkeypatch.setattr(cpu._workers, "load", lambda: None)
    cpu.warmup(("float64",))
    assert not {gemm_amx, gemm_dot, gemm_split} & set(loaded)
    cpu.warmup()
    assert ({gemm_amx, gemm_split} if bf16_unit() == "amx" else {gemm_dot}) <= set(loaded)


WITHOUT = """
import fastnn
import kernels.cpu
from kernels.cpu.ir.instruction_sets import bf16_unit

assert bf16_unit() == UNIT, bf16_unit()
assert kernels.cpu.info()["bfloat16"] == {"avx512": "AVX512-BF16", "": "none"}[UNIT]
try:
    fastnn.MLP([3, 2], precision="bf16", device="cpu")
except ValueError as error:
    wanted = "a CPU with AVX512-BF16, or device 'cuda'; this CPU does not have it"
    assert str(error) == f"precision 'bf16' needs {wanted}", error
    assert not UNIT
else:
    assert UNIT
"""


@pytest.mark.parametrize(("features", "unit"), [("+avx512bf16", "avx512"), ("", "")])
def test_what_the_cpu_lacks(features, unit, tmp_path):
    variables = {"NUMBA_CPU_NAME": "x86-64-v4", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    run(WITHOUT.replace("UNIT", repr(unit)), env=environment(**variables))
