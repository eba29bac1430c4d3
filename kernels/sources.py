"""What compiled kernels are made of: cached ones are stale once it has changed."""

import hashlib
from pathlib import Path


def source_hash(*names: str) -> str:
    """A hash of these files and folders of `kernels`, of folders all modules."""
    digest = hashlib.sha256()
    for name in names:
        path = Path(__file__).parent / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
