"""Owns recording a live mesh: hears what edges of a tenant ask of its workers, and writes it down as it comes.

Subscribes to work for the pool and to workers' own subjects, where most requests go; sends nothing. A broker copies
each message for us as for any subscriber.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import SplitResult

from meshload.errors import TargetError
from meshload.recording.entries import End, Head, entry
from meshload.recording.layout import END, HEAD, REQUEST, ChunkWriter, RecordingError, chunk_bytes
from meshload.targets import TargetOptions
from meshload.targets.nats_wire import Connection, connect
from splitmesh.errors import WireError
from splitmesh.wire import subjects

_END_BYTES = 512
"""Room that is kept for the end."""


class Recorder:
    """One recording of one tenant, until its time is over, its file full, `stop` called or the broker gone."""

    def __init__(
        self, url: str, parts: SplitResult, options: TargetOptions, *, payloads: bool, limit_bytes: int
    ) -> None:
        """url: nats://host[:port]/tenant. payloads: keep them. limit_bytes: of the file.

        Raises TargetError unless the URL names one tenant.
        """
        self.url, self._parts, self._options = url, parts, options
        self._tenant = parts.path.strip("/")
        self._payloads, self._limit_bytes = payloads, limit_bytes
        self._writer: ChunkWriter | None = None
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._failure: RecordingError | None = None
        self._start_ns = 0
        self.requests = self.unreadable = 0
        try:
            if parts.scheme != "nats":
                raise WireError("the mesh speaks NATS")
            prefix = f"{subjects.PREFIX}.{subjects.check_token(self._tenant, field='tenant')}"
        except WireError as exc:
            raise TargetError(
                f"names no tenant: {exc.message}", url=url, advice="write it as nats://host:4222/default"
            ) from exc
        self._subjects = (f"{prefix}.infer.>", f"{prefix}.worker.*")

    @property
    def file_bytes(self) -> int:
        """Written until now."""
        return self._writer.bytes if self._writer else 0

    def stop(self, why: str = "interrupted") -> None:
        """End it soon; what was heard until now is kept. Only the first reason counts."""
        if not self._ended.done():
            self._ended.set_result(why)

    async def record(self, path: Path, duration_s: float) -> End:
        """Write to a new file at `path`, once the broker lets us listen.

        Raises TargetError where it does not, RecordingError when the file can't be written.
        """
        connection = await connect(self.url, self._parts, self._options, _no_reply, self.stop)
        try:
            await self._subscribe(connection)
            return await self._write(path, duration_s)
        finally:
            await connection.close()

    async def _subscribe(self, connection: Connection) -> None:
        for subject in self._subjects:
            connection.listen(subject, self._on_message)
        try:
            complaint = await connection.settle(self._options.connect_timeout_s)
        except TimeoutError as exc:
            raise TargetError("does not answer", url=self.url, advice="is it a NATS broker?") from exc
        if complaint:
            allow = " and ".join(self._subjects)
            raise TargetError(
                f"does not let us listen: {complaint}", url=self.url, advice=f"let us subscribe {allow}"
            )

    async def _write(self, path: Path, duration_s: float) -> End:
        writer = ChunkWriter(path)
        try:
            started = datetime.now(UTC).isoformat(timespec="seconds")
            writer.add(HEAD, Head(self._tenant, self._payloads, started).to_bytes())
            self._start_ns, self._writer = time.monotonic_ns(), writer
            timer = asyncio.get_running_loop().call_later(duration_s, self.stop, "time")
            try:
                why = await self._ended
            finally:
                timer.cancel()
            if self._failure:
                raise self._failure
            end = End(time.monotonic_ns() - self._start_ns, self.requests, why, self.unreadable)
            writer.add(END, end.to_bytes())
            return end
        finally:
            writer.close()

    def _on_message(self, headers: dict[str, str], body: bytes) -> None:
        if self._ended.done() or self._writer is None:
            return
        try:
            found = entry(time.monotonic_ns() - self._start_ns, body, headers, keep_payload=self._payloads)
        except WireError:
            self.unreadable += 1
            return
        if self._writer.bytes + chunk_bytes(len(found)) + _END_BYTES > self._limit_bytes:
            self.stop("limit")
            return
        try:
            self._writer.add(REQUEST, found)
        except RecordingError as exc:
            self._failure = exc
            self.stop("disk")
            return
        self.requests += 1


def _no_reply(ticket: int, body: bytes | None) -> None:
    """We ask nothing."""
