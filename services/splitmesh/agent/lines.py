"""Owns how lines of several edges share one log: each says which stream it is of."""

from __future__ import annotations

import json
from typing import TextIO

MAX_LINE_BYTES = 16 * 1024
"""What is longer is cut there: a child can't make the agent hold more."""


class LabelledLines:
    """Takes what an edge writes, in chunks of any size, and writes it to `out` line by line.

    As JSON each line gets the field `stream`; else it begins with the stream's name.
    """

    def __init__(self, stream: str, out: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._out = out
        self._as_json = as_json
        self._rest = b""

    def __call__(self, chunk: bytes) -> None:
        *whole, rest = (self._rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            whole, rest = [*whole, rest], b""
        self._rest = rest
        for line in whole:
            self._put(line[:MAX_LINE_BYTES].decode("utf-8", "replace").rstrip("\r"))
        self._out.flush()

    def close(self) -> None:
        """What is left without an end of line."""
        if self._rest:
            self(b"\n")

    def _put(self, line: str) -> None:
        if self._as_json:
            line = json.dumps({"stream": self._stream} | _fields(line), ensure_ascii=False)
        else:
            line = f"{self._stream} | {line}"
        self._out.write(line + "\n")


def _fields(line: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    return row if isinstance(row, dict) else {"message": line}
