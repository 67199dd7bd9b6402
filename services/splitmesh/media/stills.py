"""Owns reading still pictures of a folder. Refuses folders without any, and files that are no pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from splitmesh.errors import DecodeError, SourceError
from splitmesh.frames.normalize import U8

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def picture_files(folder: Path) -> list[Path]:
    """All pictures in `folder` and below it, by name. Raises SourceError if there are none."""
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder", url=str(folder), advice="name a folder of pictures")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise SourceError(
            f"folder {folder} holds no picture", url=str(folder), advice=f"it may hold {' '.join(sorted(SUFFIXES))}"
        )
    return found


def read_pictures(paths: list[Path]) -> Iterator[U8]:
    """Each as (H, W, 3) uint8 RGB, turned the way its EXIF says. Raises DecodeError naming the file."""
    for path in paths:
        try:
            with Image.open(path) as image:
                yield np.array(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as exc:
            raise DecodeError(f"picture {path} can't be read: {exc}", advice="remove it or repair it") from exc
