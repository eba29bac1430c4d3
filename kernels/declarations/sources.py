"""What compiled kernels are made of: cached ones are stale once it has changed."""

import hashlib
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

OFFERED = "kernels.maths"


def source_hash(*names: str) -> str:
    """A hash of these files and folders of `kernels`, of folders all modules."""
    digest = hashlib.sha256()
    for name in names:
        path = Path(__file__).parents[1] / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def rule_hash(*rules: Any) -> str:
    """A hash of what rules say: of their code, and of the numbers and rules that they read from outside.

    Of anything else it is a hash of its text.

    It is the same in every process.
    """
    digest, seen = hashlib.sha256(), set()

    def read(value: Any) -> None:
        if isinstance(value, CodeType):
            digest.update(value.co_code + repr(value.co_names).encode())
            for constant in value.co_consts:
                read(constant)
        elif not isinstance(value, FunctionType):
            digest.update(value.__name__.encode() if isinstance(value, ModuleType) else repr(value).encode())
        elif value not in seen:
            seen.add(value)
            digest.update(value.__qualname__.encode())
            if value.__module__ == OFFERED:  # its text is among the sources
                return
            read(value.__code__)
            read(value.__defaults__)
            for name in value.__code__.co_names:
                read(value.__globals__.get(name))
            for cell in value.__closure__ or ():
                read(cell.cell_contents)

    for rule in rules:
        read(rule)
    return digest.hexdigest()[:16]
