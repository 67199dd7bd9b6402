"""Owns getting the model that a user names, with its manifest: its own, the one beside the file, or a guess."""

from __future__ import annotations

import logging
from pathlib import Path

from splitmesh.models.fetch import Progress
from splitmesh.models.registry import ResolvedModel, local_file, resolve_model
from splitmesh.plan.graph.load import model_sha256
from splitmesh.provision.guess import guess_file

_log = logging.getLogger(__name__)


def provide_model(
    name_or_path: str | Path | None = None, manifest: Path | None = None, progress: Progress | None = None
) -> ResolvedModel:
    """A built-in model by name (None: the default one), or a local ONNX file.

    A file's manifest is `manifest`, else FILE.toml beside FILE.onnx, else a guess, whose reasons are logged and in
    the model's `notes`. Raises ModelError: unknown name, unreadable or unfitting file, package that can't be had.
    """
    path = local_file(name_or_path)
    if path is None or manifest is not None or not path.is_file() or _has_manifest(path):
        return resolve_model(name_or_path, manifest, progress=progress)
    if progress is not None:
        progress(f"guessing a manifest for {path.name}", 0.0)
    guessed, said = guess_file(path)
    how = f"if that is wrong, save what `splitmesh models info {path.name}` prints as {path.stem}.toml and correct it"
    notes = (*said, how)
    for note in notes:
        _log.info("%s: %s", path.name, note)
    return ResolvedModel(path, guessed, None, model_sha256(path), guessed.licence, guessed.source, notes)


def _has_manifest(path: Path) -> bool:
    """An empty one is what a shell makes of `splitmesh models info own.onnx > own.toml` before that runs."""
    beside = path.with_suffix(".toml")
    return beside.is_file() and beside.stat().st_size > 0
