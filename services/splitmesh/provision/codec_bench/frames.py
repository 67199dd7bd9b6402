"""Owns telling whether a plan's tables were fitted to the very frames that codecs are to be compared on."""

from __future__ import annotations

from pathlib import Path

from splitmesh.inference.planning.request import patience_of
from splitmesh.plan.bundle.read import Bundle
from splitmesh.provision.footage import read_footage


def calibrated_on(bundle: Bundle, video: str, folder: Path | None) -> bool:
    """True if the plan was calibrated on exactly this video, this folder, or both.

    What it shares with other footage can't be told: a plan holds one hash of all its frames. A live source never
    shows the same frames twice. Raises as `read_footage` does.
    """
    known = bundle.plan.key.footage_sha256
    if not known or not Path(video).is_file():
        return False
    named: list[tuple[list[str], list[Path]]] = [([video], [])]
    if folder is not None:
        named += [([video], [folder]), ([], [folder])]
    return any(
        read_footage(videos, folders, bundle.manifest, _silent, patience=patience).sha256 == known
        for videos, folders in named
        for patience in {1.0, patience_of(bundle.plan.key.options)}
    )


def _silent(_stage: str, _share: float) -> None:
    """Reading the same frames again is not worth a bar."""
