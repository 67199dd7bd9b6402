"""Owns the span log: finished spans as JSON lines in two bounded segments. Never raises into its writer.

A full or unwritable disk costs spans, one warning and a count, nothing else. Every write goes straight to the file
(no user-space buffer), so a killed process loses only what had not been handed over.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from splitmesh.errors import OutputError
from splitmesh.telemetry.spanrow import SpanRow

_log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
_RETRY_NS = 10_000_000_000


class SpanLog:
    """Appends to `<folder>/spans-<service>-<instance>.jsonl`; the full segment becomes `….1.jsonl`, once.

    The two segments together stay under `max_bytes`. One thread writes; `dropped` may be read by any.
    """

    def __init__(self, folder: Path, service: str, instance: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", f"spans-{service}-{instance}")
        self.path = folder / f"{stem}.jsonl"
        self.previous = folder / f"{stem}.1.jsonl"
        self.written = 0
        self.dropped = 0
        self._segment_bytes = max(max_bytes // 2, 1)
        self._fd: int | None = None
        self._size = 0
        self._torn = False
        self._retry_at_ns = 0
        self._warned = False

    def write(self, rows: Iterable[SpanRow], now_ns: int) -> None:
        """Append `rows`. `now_ns` (monotonic) spaces out retries after a failure."""
        lines = [row.to_json_line() for row in rows]
        if not lines:
            return
        for batch in _batches([f"{line}\n".encode() for line in lines], min(self._segment_bytes, 256 * 1024)):
            if self._fd is None and now_ns < self._retry_at_ns:
                self.dropped += len(batch)
                continue
            try:
                self._append(b"".join(batch))
            except OSError as exc:
                self.dropped += len(batch)
                self._fail(exc, now_ns)
                continue
            self.written += len(batch)
            if self._warned:
                self._warned = False
                _log.warning("span log %s is written again; %d spans were lost", self.path, self.dropped)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _append(self, data: bytes) -> None:
        fd = self._open() if self._fd is None else self._fd
        if self._size and self._size + len(data) > self._segment_bytes:
            self.close()
            self.path.replace(self.previous)
            fd = self._open()
        if self._torn:
            data = b"\n" + data
        view = memoryview(data)
        while view:
            taken = os.write(fd, view)
            self._size += taken
            self._torn = True
            view = view[taken:]
        self._torn = False

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._torn = self._size > 0 and os.pread(fd, 1, self._size - 1) != b"\n"
        return fd

    def _fail(self, exc: OSError, now_ns: int) -> None:
        self.close()
        self._retry_at_ns = now_ns + _RETRY_NS
        if not self._warned:
            self._warned = True
            reason = exc.strerror or str(exc)
            _log.warning("span log %s can't be written (%s): spans are dropped and counted", self.path, reason)


def _batches(lines: list[bytes], limit_bytes: int) -> Iterator[list[bytes]]:
    """`lines` in order, in groups of at most `limit_bytes` (a longer line makes a group of its own)."""
    group: list[bytes] = []
    size = 0
    for line in lines:
        if group and size + len(line) > limit_bytes:
            yield group
            group, size = [], 0
        group.append(line)
        size += len(line)
    if group:
        yield group


def read_spans(folder: Path, *, trace_id: str | None = None) -> list[SpanRow]:
    """All spans of all processes that logged below `folder`, oldest start first. Torn lines are skipped.

    `trace_id`: only spans of this trace, which is much faster on a long log. Raises OutputError when the folder
    can't be read.
    """
    if not folder.is_dir():
        raise OutputError(f"no span log folder at {folder}", path=str(folder))
    rows: list[SpanRow] = []
    for path in sorted(folder.rglob("spans-*.jsonl")):
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                rows += _parsed(line for line in lines if trace_id is None or trace_id in line)
        except OSError as exc:
            raise OutputError(f"can't read {path}: {exc.strerror or exc}", path=str(path)) from exc
    if trace_id is not None:
        rows = [row for row in rows if row.trace_id == trace_id]
    rows.sort(key=lambda row: row.start_unix_ns)
    return rows


def _parsed(lines: Iterable[str]) -> Iterator[SpanRow]:
    for line in lines:
        try:
            yield SpanRow.from_json_line(line)
        except ValueError:
            continue


def frame_spans(rows: Iterable[SpanRow], frame_id: str) -> list[SpanRow]:
    """The spans of every trace that any process tied to `frame_id`, oldest start first."""
    held = list(rows)
    traces = {row.trace_id for row in held if row.frame_id == frame_id}
    return sorted((row for row in held if row.trace_id in traces), key=lambda row: row.start_unix_ns)
