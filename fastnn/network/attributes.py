"""Attributes of a network that are not set: what is decided when it is made, and views to write into."""

from typing import Any

import numpy as np


def decided(name: str, what: str, argument: str = "", by: str = "a new MLP") -> Any:
    """An attribute that is decided when a model is made: what runs the model is made for it.

    argument: of what it is made, where that has another name. by: what takes that argument.
    """

    def get(model: Any) -> Any:
        return getattr(model, f"_{name}")

    def refuse(model: Any, value: Any) -> None:
        raise AttributeError(f"{name} is decided when a model is made: pass {argument or name}={value!r} to {by}")

    return property(get, refuse, doc=what)


class Views(tuple[np.ndarray, ...]):
    """A layer's array each, views into the model's parameters. To change the model one writes into them."""

    def __setitem__(self, n: Any, value: Any) -> None:
        """Take back an array that is here already, as `weights[0] -= step` does; refuse any other."""
        if value is not self[n]:
            raise TypeError(f"a model's array cannot be replaced: write into it, as in weights[{n!r}][...] = values")
