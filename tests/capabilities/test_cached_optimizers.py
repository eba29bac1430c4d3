"""Steps of optimisers in a user's own cached `@njit` functions, in the next process."""

import json
import os

from tests.capabilities.test_optimizers import CASES
from tests.programs import PACKAGES, environment, run

DECLARED = """
import json, os
from dataclasses import dataclass
import numpy as np
from numba import njit
import kernels
from fastnn.optimizers import Optimizer, Rate, Update, declare

factor, rate = float(os.environ.get("FACTOR", 1.0)), float(os.environ.get("RATE", 0.5))

def slotless(w, g, rate):
    return (w - rate * g,)

def ball(w, g, v, rate):
    return w - rate * (v + g), v + g

def scalars(learning_rate):
    return (factor * learning_rate,)

@declare("slotless")
@dataclass(frozen=True)
class Slotless(Optimizer):
    learning_rate: Rate = 0.5
    updates = (Update((), slotless, scalars),)

@declare("ball")
@dataclass(frozen=True)
class Ball(Optimizer):
    learning_rate: Rate = rate
    updates = (Update(("v",), ball, scalars),)
"""
CALLER = """
@njit(cache=True)
def step_{n}(w, dw{slots}):
    kernels.{name}(w, dw{given})

w, dw = np.ones((3, 5)), np.full((3, 5), 0.25)
step_{n}(w, dw{zeros})
found["{id}"] = [w[2, 4], sum(step_{n}.stats.cache_hits.values())]
"""


def caller(n, case_id, name, slots, options):
    given = {slot: slot for slot in slots} | options
    return CALLER.format(
        n=n, id=case_id, name=name, slots="".join(f", {slot}" for slot in slots), zeros=", 0.0 * w" * len(slots),
        given="".join(f", {argument}={value}" for argument, value in given.items()),
    )  # fmt: skip


def results(folder, **variables):
    """By case what it made of a weight of 1, and whether its machine code came from the cache; in a new process."""
    path = os.pathsep.join(map(str, [folder, PACKAGES]))
    variables |= {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(folder / "cache")}
    return json.loads(run("import callers", env=environment(**variables)).stdout)


def test_cached_steps_in_the_next_process(tmp_path):
    cases = [("slotless", "slotless", (), {}), ("ball", "ball", ("v",), {})]
    for case in CASES:
        name, update, options = case.values
        numbered = {"step": 1} if "step" in update.options else {}
        cases.append((case.id, name, update.slots, {"learning_rate": 0.5} | numbered | options))
    text = "".join(caller(n, *case) for n, case in enumerate(cases))
    (tmp_path / "callers.py").write_text(f"{DECLARED}\nfound = {{}}\n{text}\nprint(json.dumps(found))")
    first, second = results(tmp_path), results(tmp_path)
    assert {hits for _, hits in first.values()} == {0}
    assert {hits for _, hits in second.values()} == {1}
    assert {case: w for case, (w, _) in first.items()} == {case: w for case, (w, _) in second.items()}
    assert {w < 1.0 for w, _ in first.values()} == {True}


def test_cached_steps_of_changed_declarations(tmp_path):
    """Of the scalars that they compute of their options, and of an option's default."""
    text = caller(0, "slotless", "slotless", (), {}) + caller(1, "ball", "ball", ("v",), {})
    (tmp_path / "callers.py").write_text(f"{DECLARED}\nfound = {{}}\n{text}\nprint(json.dumps(found))")
    assert results(tmp_path) == {"slotless": [0.875, 0], "ball": [0.875, 0]}
    assert results(tmp_path, FACTOR="2") == {"slotless": [0.75, 0], "ball": [0.75, 0]}
    assert results(tmp_path, FACTOR="2", RATE="1") == {"slotless": [0.75, 1], "ball": [0.5, 0]}
