"""Owns asking a process for its `GET /status`. Refuses to raise: a process that can't answer has no status."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from typing import Any

_TIMEOUT_S = 0.8


def fetch_status(port: int, path: str = "/status") -> dict[str, Any]:
    """The JSON object that the process on this host's `port` answers with; {} if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        value = json.loads(reply.read()) if reply.status == 200 else {}
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    return value if isinstance(value, dict) else {}


class StatusPoll:
    """The latest status of one process, asked for on a thread so that a stalled process can't stall the lab."""

    def __init__(self, port: int | None) -> None:
        self.port = port
        self.latest: dict[str, Any] = {}
        self.last_known: dict[str, Any] = {}
        """The latest one that was not empty."""
        self.heard_s = 0.0
        """When that one arrived, `time.monotonic()`."""
        self._asking: asyncio.Task[None] | None = None

    def refresh(self) -> None:
        """Ask again unless the last question is still open."""
        if self.port is not None and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask(self.port))

    async def _ask(self, port: int) -> None:
        self.latest = await asyncio.to_thread(fetch_status, port)
        if self.latest:
            self.last_known = self.latest
            self.heard_s = time.monotonic()

    async def close(self) -> None:
        if self._asking is not None:
            await asyncio.wait({self._asking})
