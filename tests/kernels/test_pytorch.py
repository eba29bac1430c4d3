"""The layer that docs/pytorch.md shows, on the CPU and, where there is one, on a GPU."""

import re
from pathlib import Path

import pytest

from kernels import devices

torch = pytest.importorskip("torch", reason="docs/pytorch.md needs PyTorch, which no extra of the tests installs")

TEXT = (Path(__file__).parents[2] / "docs" / "pytorch.md").read_text()
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available() or not devices.has_extra(), reason="no GPU for PyTorch, or no numba-cuda"
        ),
    ),
]


@pytest.fixture(scope="module")
def layer():
    """What the page's code defines."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names = {}
    exec(compile(code, "docs/pytorch.md", "exec"), names)
    return names


@pytest.mark.parametrize("device", DEVICES)
def test_its_gradients_are_those_of_finite_differences(layer, device):
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3), (3, 4), (4,)]
    arrays = [torch.randn(s, generator=generator, dtype=torch.float64).to(device).requires_grad_() for s in shapes]
    assert torch.autograd.gradcheck(layer["LinearReLU"].apply, arrays)


@pytest.mark.parametrize("device", DEVICES)
def test_it_is_pytorchs_own_layer(layer, device):
    generator = torch.Generator().manual_seed(1)
    x, w, b = (torch.randn(s, generator=generator).to(device).requires_grad_() for s in [(70, 33), (33, 65), (65,)])
    results = []
    for y in (layer["LinearReLU"].apply(x, w, b), torch.relu(x @ w + b)):
        results.append([y, *torch.autograd.grad((y * y).sum(), (x, w, b))])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("device", DEVICES[1:])
def test_it_runs_on_pytorchs_current_stream(layer, device):
    """Had it run elsewhere, x would be read before the long work in front of it is done."""
    stream = torch.cuda.Stream()
    w, b = torch.eye(512, device=device), torch.zeros(512, device=device)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        busy = torch.ones(4096, 4096, device=device)
        for _ in range(20):
            busy = busy @ busy / 4096
        x = busy[:512, :512].contiguous() + 1
        y = layer["LinearReLU"].apply(x, w, b) + 0
    stream.synchronize()
    torch.testing.assert_close(y, torch.full_like(y, 2.0))
