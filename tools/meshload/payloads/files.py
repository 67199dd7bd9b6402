"""Owns payloads that are files, each sent as it is. Refuses folders, and more than fits the limit."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Final

from meshload.payloads.prepared import PayloadError, Prepared, Terms, gathered
from meshload.payloads.spec import Files
from meshload.target import Payload

_OTHER: Final = "application/octet-stream"


def files(spec: Files, text: str, terms: Terms) -> Prepared:
    """Every file that the pattern names, by name. `**` goes into folders. Raises PayloadError."""
    found = glob(spec.glob, recursive=True)  # noqa: PTH207 - the pattern may be absolute
    paths = sorted(path for path in map(Path, found) if path.is_file())
    made = _read(paths, text, terms.limit_bytes)
    return gathered(made, spec=text, what=f"files of {spec.glob}", limit_bytes=terms.limit_bytes)


def _read(paths: list[Path], text: str, limit_bytes: int) -> Iterator[Payload]:
    for path in paths:
        try:
            if path.stat().st_size > limit_bytes:
                raise PayloadError(f"{path} is larger than the limit of {limit_bytes} bytes", spec=text)
            data = path.read_bytes()
        except OSError as exc:
            raise PayloadError(f"{path} can't be read: {exc.strerror}", spec=text) from exc
        yield Payload(data, name=path.name, content_type=mimetypes.guess_type(path.name)[0] or _OTHER)
