"""Owns the proof that a file that fixes its batch gives one picture what it gives it among others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import InferenceError, ModelError
from splitmesh.frames.answer import F32
from splitmesh.inference.planning.rehearsal import Rehearsal
from splitmesh.plan.cuts.extract import relative_error
from splitmesh.plan.guess.facts import Facts
from splitmesh.plan.guess.model import draft_manifest
from splitmesh.plan.guess.picture import guess_picture, sheet

_LIMIT = 1e-2
"""Relative; half precision may take another path for another batch."""
Outputs = Mapping[str, npt.NDArray[Any]]


def runs_alone(bench: Rehearsal, facts: Facts, alone: Facts, *, name: str) -> bool:
    """Whether the model, its batch set to 1, gives two different tensors what it gives them in its own batch.

    alone: the facts with a batch of 1. Only for models of one input, with three channels.
    """
    guess, batch = guess_picture(alone), facts.inputs[0].shape[0]
    trial = guess.trials[0]
    if guess.layout == "flat" or guess.channels != 3 or len(facts.inputs) > 1 or batch is None:
        return False
    shape = (batch, *guess.axes(trial)[1:])
    together = replace(guess, layout="flat", port=facts.inputs[0])
    try:
        one = bench.session(draft_manifest(alone, guess, trial, name=name))
        many = bench.session(draft_manifest(facts, together, sheet(shape), name=name))
        pictures = np.random.default_rng(5).random((2, 1, 3, trial.height, trial.width), np.float32)
        singles = [one.run({guess.port.name: picture}) for picture in pictures]
        both = many.run({guess.port.name: _laid_out(pictures, shape, guess.layout)})
    except (InferenceError, ModelError):
        return False
    return all(_same(single, both, index, batch) for index, single in enumerate(singles))


def _laid_out(pictures: F32, shape: tuple[int, ...], layout: str) -> F32:
    """A sheet whose first numbers are a batch of `shape` in which the pictures take turns."""
    turns = pictures[np.arange(shape[0]) % len(pictures), 0]
    rows = (turns.transpose(0, 2, 3, 1) if layout == "NHWC" else turns).ravel()
    trial = sheet(shape)
    filled: F32 = np.zeros((1, 3, trial.height, trial.width), np.float32)
    filled.reshape(-1)[: math.prod(shape)] = rows
    return filled


def _same(single: Outputs, both: Outputs, index: int, batch: int) -> bool:
    among = {name: value[index : index + 1] for name, value in both.items() if value.ndim and len(value) == batch}
    return among.keys() == single.keys() and relative_error(among, single) <= _LIMIT
