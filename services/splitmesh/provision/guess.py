"""Owns guessing the manifest of a file that has none: runs it on made-up pictures, always the same ones.

Edge and worker guess apart from each other and must come to the same: nothing but the file enters. It runs in the
form that a plan gives it (`plan.graph.canonical`), so what runs here runs there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitmesh.errors import InferenceError, MeshError, ModelError
from splitmesh.inference.planning.rehearsal import Rehearsal
from splitmesh.plan.cuts.extract import Arrays
from splitmesh.plan.graph.load import load_model
from splitmesh.plan.guess.facts import Facts, read_facts
from splitmesh.plan.guess.model import draft_manifest, guess_manifest, model_name
from splitmesh.plan.guess.picture import Guess, Trial, guess_picture, of_one_picture
from splitmesh.plan.manifest import Manifest
from splitmesh.provision.single import runs_alone

PICTURES = 2
MOST_BYTES = 16_000_000
"""Of outputs for one picture, where the file leaves its size open: what a smaller picture gives tells as much."""
Notes = tuple[str, ...]


def guess_file(path: Path) -> tuple[Manifest, Notes]:
    """The likeliest manifest of an ONNX file, and sentences that say what was taken for what, and why.

    Raises ModelError if the file is no model, is one that the runtime can't run, takes or gives something other than
    numbers, or leaves its picture's size open and runs with none of the usual ones.
    """
    name = model_name(path.stem)
    model = load_model(path)
    facts = read_facts(model)
    with (
        tempfile.TemporaryDirectory(prefix="splitmesh-guess-") as folder,
        Rehearsal(path, model, Path(folder)) as bench,
    ):
        del model
        alone = of_one_picture(facts)
        if alone is not None and runs_alone(bench, facts, alone, name=name):
            manifest, notes = _guessed(bench, path, alone, guess_picture(alone), name)
            return manifest, (*notes, "the file fixes a batch of several pictures: one alone gave the same")
        return _guessed(bench, path, facts, guess_picture(facts), name)


def _guessed(bench: Rehearsal, path: Path, facts: Facts, guess: Guess, name: str) -> tuple[Manifest, Notes]:
    """At the first size that runs and gives no more than MOST_BYTES, else at the one that gives least."""
    failures: list[tuple[Trial, MeshError]] = []
    best: tuple[int, Trial, list[Arrays]] | None = None
    for trial in guess.trials:
        try:
            pictures = (made_up_picture(trial.height, trial.width, index) for index in range(PICTURES))
            samples = bench.outputs(draft_manifest(facts, guess, trial, name=name), pictures)
        except (InferenceError, ModelError) as exc:
            failures.append((trial, exc))
            continue
        size = sum(value.nbytes for value in samples[0].values())
        if best is None or size < best[0]:
            best = (size, trial, samples)
        if size <= MOST_BYTES:
            break
    if best is not None:
        return guess_manifest(facts, guess, best[1], name=name, samples=best[2])
    trial, error = failures[0]
    if len(failures) == 1:
        if isinstance(error, InferenceError):
            return guess_manifest(facts, guess, trial, name=name)
        raise error
    raise ModelError(
        f"model {path} leaves the size of {guess.port.name} open and ran with none of "
        f"{', '.join(map(str, guess.trials))}; {trial}: {error.message}",
        advice="write a manifest that says its width and height",
    )


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
