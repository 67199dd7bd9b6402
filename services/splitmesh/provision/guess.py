"""Owns guessing the manifest of a file that has none: runs it on made-up pictures, always the same ones.

Edge and worker guess apart from each other and must come to the same: nothing but the file enters.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import InferenceError, ModelError
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.graph.load import load_model
from splitmesh.plan.guess.facts import read_facts
from splitmesh.plan.guess.model import draft_manifest, guess_manifest, model_name
from splitmesh.plan.guess.picture import Guess, Trial, guess_picture
from splitmesh.plan.manifest import ExtraInput, Manifest

Array = npt.NDArray[Any]

_PICTURES = 3
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601."""


def guess_file(path: Path) -> tuple[Manifest, tuple[str, ...]]:
    """The likeliest manifest of an ONNX file, and sentences that say what was taken for what, and why.

    Raises ModelError if the file is no model, takes or gives something other than numbers, or leaves its picture's
    size open and runs with none of the usual ones.
    """
    name = model_name(path.stem)
    facts = read_facts(load_model(path))
    guess = guess_picture(facts)
    session = open_session(path, threads=1, providers=("cpu",))
    failures: list[str] = []
    for trial in guess.trials:
        draft = draft_manifest(facts, guess, trial, name=name)
        try:
            samples = [session.run(feeds) for feeds in _feeds(session, guess, trial, draft)]
        except InferenceError as exc:
            failures.append(f"{trial}: {exc.message}")
            continue
        return guess_manifest(facts, guess, trial, name=name, samples=samples)
    if len(guess.trials) == 1:
        return guess_manifest(facts, guess, guess.trials[0], name=name)
    raise ModelError(
        f"model {path} leaves the size of {guess.port.name} open and ran with none of "
        f"{', '.join(map(str, guess.trials))}; {failures[0]}",
        advice="write a manifest that says its width and height",
    )


def _feeds(session: Session, guess: Guess, trial: Trial, manifest: Manifest) -> Iterator[dict[str, Array]]:
    """All inputs as the file takes them, once per picture."""
    normalizer = Normalizer.from_manifest(manifest)
    extra = {each.name: _constant(each, session) for each in manifest.extra}
    dtype = session.inputs[manifest.input][1]
    for index in range(_PICTURES):
        tensor = normalizer.normalize(_picture(trial.height, trial.width, index))
        value: Array = tensor
        if trial.shape is not None:
            value = tensor.ravel()[: np.prod(trial.shape)].reshape(trial.shape)
        elif guess.channels == 1:
            value = np.tensordot(_LUMA, tensor[0], 1)[None, None]
        if guess.layout == "NHWC":
            value = value.transpose(0, 2, 3, 1)
        if dtype.kind in "iu":
            value = np.rint(value)
        yield {manifest.input: np.ascontiguousarray(value.astype(dtype)), **extra}


def _constant(extra: ExtraInput, session: Session) -> Array:
    fixed, dtype = session.inputs[extra.name]
    shape = extra.shape if extra.shape is not None else tuple(n or 1 for n in fixed)
    values = np.asarray(extra.value, np.float64).astype(dtype)
    return np.array(np.broadcast_to(values, shape) if values.ndim == 0 else values.reshape(shape), order="C")


def _picture(height: int, width: int, index: int) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8: blocks of several sizes on a slope, another for each index. Integers alone, so that
    every machine makes the same."""
    rows, columns, channels = np.ogrid[:height, :width, :3]
    total = np.zeros((height, width, 3), np.int64)
    for block in (4, 16, 64):
        mixed = (
            (columns // block) * 73_856_093 ^ (rows // block) * 19_349_663 ^ (channels + 3 * index + 1) * 83_492_791
        )
        total += (mixed * 2_654_435_761 >> 13) % 64
    slope = 64 * (rows + columns * (index + 1)) // (height + width)
    picture: npt.NDArray[np.uint8] = ((total + slope) % 256).astype(np.uint8)
    return picture
