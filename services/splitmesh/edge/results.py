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
        self._torn = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("wb", buffering=0)
        except OSError as exc:
            raise OutputError(
                f"can't write results to {path}: {exc.strerror}",
                path=str(path),
                advice="choose a folder that you may write to",
            ) from exc

    def write(self, record: FrameRecord) -> None:
        line = record.to_json_line().encode() + b"\n"
        try:
            self._append(line)
            self.written += 1
        except OSError as exc:
            self.lost += 1
            if self.lost == 1:
                _log.error("results are being lost: can't write %s: %s", self.path, exc.strerror)

    def close(self) -> None:
        if self.lost:
            _log.error("%s lacks %d of %d lines", self.path, self.lost, self.lost + self.written)
        self._file.close()

    def _append(self, line: bytes) -> None:
        """Unbuffered: nothing of a line that failed comes out later. A torn one is ended before the next."""
        view = memoryview(b"\n" + line if self._torn else line)
        while view:
            taken = self._file.write(view)
            self._torn = True
            view = view[taken:]
        self._torn = False
