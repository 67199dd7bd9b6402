"""Owns the guess of a whole manifest: from a graph, and from what it gives for made-up pictures. Runs no model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from splitmesh.plan.guess.boxes import read_listed, read_separate, read_suppressed
from splitmesh.plan.guess.evidence import Evidence, Reading
from splitmesh.plan.guess.facts import Facts
from splitmesh.plan.guess.feed import UNIT, Range
from splitmesh.plan.guess.grids import read_grid, read_yunet
from splitmesh.plan.guess.maps import read_centernet, read_segmentation
from splitmesh.plan.guess.picture import Guess, Trial
from splitmesh.plan.guess.vectors import read_classifier, read_tensor
from splitmesh.plan.manifest import Manifest, parse_manifest
from splitmesh.plan.manifest_kinds import TensorPostprocess

_READERS = (
    read_yunet,
    read_suppressed,
    read_listed,
    read_grid,
    read_separate,
    read_centernet,
    read_classifier,
    read_segmentation,
)
"""The first that finds its kind wins: those that ask for most come first."""


def draft_manifest(facts: Facts, guess: Guess, trial: Trial, *, name: str) -> Manifest:
    """A manifest that only says how to feed the model, to run it with: all outputs stay as they are."""
    post = TensorPostprocess(kind="tensor", outputs=tuple(port.name for port in facts.outputs))
    return _manifest(name, guess, trial, guess.shown or UNIT, post=post)


def guess_manifest(
    facts: Facts,
    guess: Guess,
    trial: Trial,
    *,
    name: str,
    samples: Sequence[Mapping[str, npt.NDArray[Any]]] = (),
) -> tuple[Manifest, tuple[str, ...]]:
    """The likeliest manifest, and sentences that say what was taken for what, and why.

    samples: the outputs by name for each of some pictures, fed as `draft_manifest` says. Without any, the guess is
    made from the graph alone.
    """
    e = Evidence.of(facts, trial.height, trial.width, samples)
    reading = _read(e, flat=guess.layout == "flat")
    feed = reading.feed
    used, why = _range(guess, reading)
    manifest = _manifest(
        name,
        guess,
        trial,
        used,
        post=reading.post,
        labels=reading.labels,
        color=feed.color if guess.channels != 1 else "RGB",
        fit=feed.fit,
        pad_value=feed.pad_value,
    )
    notes = [_fed(guess, trial, manifest, used, why), *_given(guess, manifest), *reading.said]
    if facts.left_out:
        notes.append(f"left out {', '.join(facts.left_out)}: no tensors of numbers")
    if not samples:
        notes.append("the model could not be run on made-up pictures, so this is from the graph alone")
    return manifest, tuple(notes)


def model_name(stem: str) -> str:
    """A file's stem as the name of a model: lower-case letters, digits and single dashes, at most 48."""
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return plain[:48].strip("-") or "model"


def _read(e: Evidence, *, flat: bool) -> Reading:
    """flat: the model takes no picture, so nothing in its outputs has a place in one."""
    readers = (read_classifier,) if flat else _READERS
    found = next((reading for reader in readers if (reading := reader(e)) is not None), None)
    return found or read_tensor(e, flat=flat)


def _range(guess: Guess, reading: Reading) -> tuple[Range, str]:
    if guess.shown is not None:
        return guess.shown, guess.why
    usual = reading.feed.range
    if not usual.is_even and guess.channels != 3:
        return UNIT, "as is usual for grey pictures"
    return usual, f"as is usual for {reading.feed.family}; the graph does not tell"


def _fed(guess: Guess, trial: Trial, manifest: Manifest, used: Range, why: str) -> str:
    port = guess.port
    if guess.layout == "flat":
        shape = "×".join(map(str, trial.shape or ()))
        return (
            f"`{port.name}`, {port.dtype_name} {shape}, is no picture of one or three channels: it gets the first "
            f"numbers of a {trial.width}×{trial.height} picture as {used.said}"
        )
    color = "grey" if guess.channels == 1 else manifest.color
    seen = "" if guess.channels == 1 else "; channel order can't be seen in a graph"
    open_sizes = f" (the file leaves the size open; {trial} runs)" if len(guess.trials) > 1 else ""
    return (
        f"took `{port.name}` as the picture: {port.dtype_name} {guess.layout} {trial}{open_sizes}, {color}, "
        f"{'letterboxed' if manifest.fit == 'letterbox' else 'stretched'}, {used.said}, {why}{seen}"
    )


def _given(guess: Guess, manifest: Manifest) -> list[str]:
    return [f"`{port.name}` gets the picture too" for port in guess.also] + [
        f"`{extra.name}` always gets {' '.join(f'{v:g}' for v in extra.value)}"
        if isinstance(extra.value, tuple)
        else f"`{extra.name}` always gets {extra.value:g}"
        for extra in manifest.extra
    ]


def _manifest(name: str, guess: Guess, trial: Trial, used: Range, **known: Any) -> Manifest:
    post = known.pop("post")
    fields = {
        "name": name,
        "input": guess.port.name,
        "width": trial.width,
        "height": trial.height,
        "layout": guess.layout,
        "shape": trial.shape,
        "extra": guess.extra(trial),
        "scale": used.scale,
        "offset": used.offset,
        "postprocess": post,
        "licence": "unknown",
        "source": "guessed from the file",
    }
    return parse_manifest(fields | known, where=f"guessed for {name}")
