"""Owns `results.jsonl`: one line per captured frame. A full disk costs lines, not frames."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO

from splitmesh.errors import OutputError
from splitmesh.frames.record import FrameRecord

_log = logging.getLogger(__name__)


class ResultLog:
    """Opens `path` for writing at once (OutputError naming it if that fails). `lost` counts lines not written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        self.lost = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = path.open("w", encoding="utf-8", buffering=1)
        except OSError as exc:
            raise OutputError(
                f"can't write results to {path}: {exc.strerror}",
                path=str(path),
                advice="choose a folder that you may write to",
            ) from exc

    def write(self, record: FrameRecord) -> None:
        try:
            self._file.write(record.to_json_line() + "\n")
            self.written += 1
        except OSError as exc:
            self.lost += 1
            if self.lost == 1:
                _log.error("results are being lost: can't write %s: %s", self.path, exc.strerror)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as exc:
            self.lost += 1
            _log.error("the end of %s is lost: %s", self.path, exc.strerror)
