"""Imports go down: from fastnn to the public side of kernels, and to what backends share. There is no circle."""

import ast
import graphlib
from pathlib import Path

import pytest

from tests.programs import PACKAGES, run

FILES = {
    ".".join(path.relative_to(PACKAGES).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("kernels", "fastnn")
    for path in sorted((PACKAGES / package).rglob("*.py"))
}
PUBLIC = {"kernels", "kernels.api", "kernels.backends", "kernels.nopython", "kernels.stepping"}
BACKENDS = {"kernels.cpu", "kernels.cuda"}
# Folders that one backend has and the other has no use for: other libraries' arrays on the GPU, and its driver; the
# host's threads, what is clocked on them, and kernels of kinds of layers, of which a GPU has the dense one alone
OWN_FOLDERS = {
    "kernels.cpu": {"compiler/shipped", "engine/layers", "measure", "threads"},
    "kernels.cuda": {"arrays", "driver"},
}


def imported(source: str, module: str, package: bool, known: set[str]) -> set[str]:
    """The known modules that a module's source imports, in functions, for types alone, and later on, too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                here = parts[: len(parts) - node.level + package]
                base = ".".join([*here, *base.split(".")] if base else here)
            found |= {name if (name := f"{base}.{alias.name}") in known else base for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "deferred.module":
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return (found & known) - {module}


GRAPH = {name: imported(path.read_text(), name, path.name == "__init__.py", set(FILES)) for name, path in FILES.items()}


def belongs(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def part(module: str) -> str:
    """The part of the house that a module belongs to."""
    if belongs(module, {"fastnn"}):
        return "fastnn"
    if module in PUBLIC or belongs(module, {"kernels.nopython"}):
        return "public"
    return next((backend for backend in BACKENDS if belongs(module, {backend})), "shared")


ALLOWED = {
    "fastnn": {"fastnn", "public", "shared"},
    "public": {"public", "shared"},
    "kernels.cpu": {"kernels.cpu", "shared"},
    "kernels.cuda": {"kernels.cuda", "shared"},
    "shared": {"shared"},
}


def test_what_is_imported_is_found():
    known = {"a", "a.b", "a.b.c", "a.d", "e"}
    source = "import e\ndef f():\n    from a import b, nothing\nfrom . import c\nfrom ..d import x"
    assert imported(source, "a.b", True, known) == {"a", "a.b.c", "a.d", "e"}
    assert imported("from . import c\nfrom ..d import x", "a.b.c", False, known) == {"a.d"}
    assert imported("import json, a.b", "e", False, known) == {"a.b"}
    assert imported("x = deferred.module('a.b')", "e", False, known) == {"a.b"}


def test_there_is_no_circle():
    graphlib.TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names one


@pytest.mark.parametrize("module", sorted(FILES))
def test_arrows_go_down(module):
    allowed = ALLOWED[part(module)]
    # compiled code is the CPU's: the public functions inside a user's own are written for it
    allowed = allowed | {"kernels.cpu"} if belongs(module, {"kernels.nopython"}) else allowed
    wrong = {other for other in GRAPH[module] if part(other) not in allowed}
    assert not wrong


def folders(package: str) -> set[Path]:
    root = FILES[package].parent
    return {path.parent.relative_to(root) for path in root.rglob("*.py")}


def test_the_backends_have_the_same_folders():
    cpu, cuda = (folders(package) for package in ("kernels.cpu", "kernels.cuda"))
    assert {str(path) for path in cpu - cuda} == OWN_FOLDERS["kernels.cpu"]
    assert {str(path) for path in cuda - cpu} == OWN_FOLDERS["kernels.cuda"]


def test_numba_is_imported_when_something_is_compiled():
    run(
        "import sys, fastnn.model, kernels.cpu.engine.engine\n"
        "assert not {'numba', 'llvmlite'} & set(sys.modules)\n"
        "import numpy as np, kernels\n"
        "kernels.activate(np.ones((1, 1)), 'tanh')\n"
        "assert {'numba', 'llvmlite'} <= set(sys.modules)"
    )
