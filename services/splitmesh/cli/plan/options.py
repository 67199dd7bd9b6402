"""Owns the options that several of the `splitmesh plan` commands take, and the frames that some of them name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from splitmesh.plan.footage import Footage
    from splitmesh.plan.manifest import Manifest

_DEVICE_CLASS = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def _checked_class(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value and not _DEVICE_CLASS.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not of lower-case letters, digits, dots, dashes, underscores (≤ 64)")
    return value


VIDEO = click.option(
    "--video",
    "videos",
    multiple=True,
    metavar="FILE|URL",
    help="Frames to measure on; may be given again. Default: the built-in street clip.",
)
IMAGES = click.option(
    "--images",
    "folders",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder of pictures to measure on; may be given again.",
)
THREADS = click.option(
    "--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Runtime threads to measure with."
)
SLOWDOWN = click.option(
    "--edge-slowdown",
    type=click.FloatRange(1, 1000),
    default=1.0,
    show_default=True,
    metavar="K",
    help="Take the edge to be K times slower than this machine.",
)
DEVICE_CLASS = click.option(
    "--device-class",
    default="",
    metavar="NAME",
    callback=_checked_class,
    help="Name of the profile; default: made of device and threads.",
)
PATIENCE = click.option(
    "--patience",
    type=click.FloatRange(1, 16),
    default=1.0,
    show_default=True,
    metavar="K",
    help="Measure on K times as many frames: truer numbers and better tables in about K times the time. "
    "4 for a camera that stays.",
)
FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


def frames_of(
    videos: Sequence[str],
    folders: Sequence[Path],
    manifest: Manifest,
    progress: Callable[[str, float], None],
    *,
    patience: float = 1.0,
) -> Footage:
    """What the sources show, at the model's size; of the built-in clip if none is named.

    Raises SourceError, DecodeError.
    """
    from splitmesh.models.registry import default_clip
    from splitmesh.provision.footage import read_footage

    named = list(videos) if videos or folders else [str(default_clip(progress))]
    return read_footage(named, folders, manifest, progress, patience=patience)
