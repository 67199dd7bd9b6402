"""Owns guessing the manifest of a file that has none: runs it on made-up pictures, always the same ones.

Edge and worker guess apart from each other and must come to the same: nothing but the file enters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import InferenceError, ModelError
from splitmesh.frames.answer import F32
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.graph.load import load_model
from splitmesh.plan.guess.facts import read_facts
from splitmesh.plan.guess.model import draft_manifest, guess_manifest, model_name
from splitmesh.plan.guess.picture import Guess, Trial, guess_picture
from splitmesh.plan.manifest import ExtraInput, Manifest, picture_layout

Array = npt.NDArray[Any]

PICTURES = 2
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
            samples = sample_outputs(session, guess, trial, draft)
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


def sample_outputs(session: Session, guess: Guess, trial: Trial, draft: Manifest) -> list[dict[str, Array]]:
    """What the file gives for the made-up pictures, fed as `draft` says. Raises InferenceError."""
    return [session.run(feeds) for feeds in _feeds(session, guess, trial, draft)]


def _feeds(session: Session, guess: Guess, trial: Trial, manifest: Manifest) -> Iterator[dict[str, Array]]:
    """All inputs as the file takes them, once per picture. Layouts and grey as `plan.graph.feed` makes them."""
    normalizer = Normalizer.from_manifest(manifest)
    extra = {each.name: _constant(each, session) for each in manifest.extra}
    dtype = session.inputs[manifest.input][1]
    for index in range(PICTURES):
        tensor = normalizer.normalize(made_up_picture(trial.height, trial.width, index))
        if trial.shape is not None:
            picture: Array = tensor.ravel()[: math.prod(trial.shape)].reshape(trial.shape)
        else:
            picture = _laid_out(tensor, guess.layout, guess.channels, trial.height, trial.width)
        yield {manifest.input: _cast(picture, dtype), **_also(tensor, session, guess), **extra}


def _also(tensor: F32, session: Session, guess: Guess) -> dict[str, Array]:
    """What further inputs for pictures get."""
    fed = {}
    for port in guess.also:
        shape, dtype = session.inputs[port.name]
        layout = picture_layout(shape)
        channels, height, width = (shape[1], *shape[2:]) if layout == "NCHW" else (shape[3], *shape[1:3])
        fed[port.name] = _cast(_laid_out(tensor, layout, channels, height, width), dtype)
    return fed


def _laid_out(tensor: F32, layout: str, channels: int | None, height: int | None, width: int | None) -> Array:
    """(1, 3, H, W) in another layout, as grey if `channels` is 1, and by the nearest pixels in another size."""
    value: Array = tensor[:, :, _nearest(tensor.shape[2], height), :][..., _nearest(tensor.shape[3], width)]
    if channels == 1:
        value = np.tensordot(_LUMA, value, (0, 1))[None]
    return value.transpose(0, 2, 3, 1) if layout == "NHWC" else value


def _cast(value: Array, dtype: np.dtype[Any]) -> Array:
    """To whole numbers rounded, half up, within their range."""
    if dtype.kind in "iub":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        value = np.clip(np.floor(value + 0.5), low, high)
    return np.array(value.astype(dtype), order="C")


def _nearest(have: int, want: int | None) -> npt.NDArray[np.intp]:
    size = want or have
    return (2 * np.arange(size) + 1) * have // (2 * size)


def _constant(extra: ExtraInput, session: Session) -> Array:
    fixed, dtype = session.inputs[extra.name]
    shape = extra.shape if extra.shape is not None else tuple(n or 1 for n in fixed)
    values = np.asarray(extra.value, np.float64).astype(dtype)
    return np.array(np.broadcast_to(values, shape) if values.ndim == 0 else values.reshape(shape), order="C")


def made_up_picture(height: int, width: int, index: int) -> npt.NDArray[np.uint8]:
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
