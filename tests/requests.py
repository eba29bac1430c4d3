"""Requests to engines, written flat."""

from dataclasses import fields

from kernels.engine.requests import Batches, Descent, Objective, TrainRequest


def train_request(x, target, weight=None, noise=None, **options):
    """A request for steps; options: the fields of its batches, objective and descent."""
    options = {"order": None, "first": 0, "metric": None, **options}
    parts = [
        kind(**{field.name: options.pop(field.name) for field in fields(kind) if field.name in options})
        for kind in (Batches, Objective, Descent)
    ]
    assert not options, f"no part of a request has {', '.join(options)}"
    return TrainRequest(x, target, weight, *parts, noise)
