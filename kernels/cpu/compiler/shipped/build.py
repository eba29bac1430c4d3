"""Make the kernels of levels: python -m kernels.cpu.compiler.shipped.build [LEVEL ...] [options].

Without a level, those of this kind of machine. Processes of their own write object files side by side (emit.py), and
the system's linker makes a shared object of a level's. It takes some minutes of one core for each level.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernels.cpu.compiler.shipped.levels import LEVELS, Level, runs_here
from kernels.cpu.compiler.shipped.library import FOLDER, GOING_ROUND, MAKING, SOURCES, pointer_to
from kernels.cpu.ir.system import FUNCTIONS

OF_NUMBA = ("numba", "llvmlite")  # distributions whose versions the manifest names


def linker(machine: str) -> list[str]:
    """The command of a C compiler that links for a machine; raises FileNotFoundError where none is installed."""
    names = [f"{machine}-linux-gnu-gcc"]
    if machine == platform.machine():
        names = [os.environ.get("CC", "cc"), "gcc", "clang", *names]
    for name in names:
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu"]
    raise FileNotFoundError(f"a linker for {machine} was not found: install gcc or clang, or pip install ziglang")


def emitted(level: Level, folder: Path, jobs: int, usual: bool) -> dict[str, list[str]]:
    """The kernels' signatures by their symbols; their object files then lie in the folder."""
    environment = {name: value for name, value in os.environ.items() if name not in GOING_ROUND}
    environment[MAKING] = level.name

    def part(n: int) -> None:
        program = [sys.executable, "-m", "kernels.cpu.compiler.shipped.emit", str(n), str(jobs), str(folder)]
        program += ["usual"] if usual else []
        subprocess.run(program, env=environment, check=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(part, range(jobs)))
    signatures: dict[str, list[str]] = {}
    for file in folder.glob("part*.json"):
        signatures |= json.loads(file.read_text())
    return signatures


def linked(level: Level, folder: Path, symbols: Sequence[str], target: Path) -> None:
    """Make a shared object of the folder's object files, in which these symbols alone can be seen."""
    seen = [*symbols, *map(pointer_to, FUNCTIONS)]
    script = folder / "symbols.map"
    script.write_text(f"{{ global: {'; '.join(sorted(seen))}; local: *; }};")
    options = ["-shared", "-nostdlib", "-Wl,-Bsymbolic", "-Wl,-s", f"-Wl,--version-script={script}"]
    objects = [str(file) for file in sorted(folder.glob("*.o"))]
    subprocess.run([*linker(level.machine), *options, "-o", str(target), *objects], check=True)


def make(level: Level, folder: Path = FOLDER, jobs: int = 1, usual: bool = False) -> Path:
    """Make a level's kernels and their manifest; returns the shared object.

    usual: those alone that most networks are trained by; others are compiled when they are first used.

    Raises FileNotFoundError where there is no linker, CalledProcessError where a part fails.
    """
    linker(level.machine)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{level.name}.so"
    with tempfile.TemporaryDirectory() as scratch:
        signatures = emitted(level, Path(scratch), jobs, usual)
        made = Path(scratch) / target.name
        linked(level, Path(scratch), sorted(signatures), made)
        manifest = {
            "level": level.name,
            "needs": level.needs,
            "sources": SOURCES,
            "sha256": hashlib.sha256(made.read_bytes()).hexdigest(),
            "versions": {name: importlib.metadata.version(name) for name in OF_NUMBA},
            "kernels": dict(sorted(signatures.items())),
        }
        target.with_suffix(".json").unlink(missing_ok=True)
        shutil.copyfile(made, target)
        target.with_suffix(".json").write_text(json.dumps(manifest, indent=1))
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    """What the module does as a program."""
    parser = argparse.ArgumentParser(prog="python -m kernels.cpu.compiler.shipped.build", description=__doc__)
    parser.add_argument("levels", nargs="*", choices=[*LEVELS, []], metavar="LEVEL", help=", ".join(LEVELS))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    parser.add_argument("--usual", action="store_true", help="those alone that most networks are trained by")
    parser.add_argument("--runnable", action="store_true", help="the levels that this machine has")
    parser.add_argument("--best", action="store_true", help="the best level of this machine")
    options = parser.parse_args(arguments)
    names = options.levels or [level.name for level in LEVELS.values() if level.machine == platform.machine()]
    here = [level.name for level in LEVELS.values() if runs_here(level)]
    if options.runnable or options.best:
        names = here[:1] if options.best else here
    for name in names:
        made = make(LEVELS[name], options.folder, options.jobs, options.usual)
        print(f"{made}: {made.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
