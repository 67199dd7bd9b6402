"""Owns the log file of a process of the lab; the process itself is `process.child`'s."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path

from splitmesh.process.child import Child as AnyChild
from splitmesh.process.child import ChildError

__all__ = ["Child", "ChildError"]

_TAIL_BYTES = 64 * 1024


class Child(AnyChild):
    """A child whose stdout and stderr go to `log_path` (appended). See `process.child.Child`."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        log_path: Path,
        ready_file: Path,
        cores: tuple[int, ...] = (),
        niceness: int = 0,
        commanded: bool = False,
    ) -> None:
        super().__init__(
            name,
            command,
            output=self._log,
            ready_file=ready_file,
            cores=cores,
            niceness=niceness,
            commanded=commanded,
        )
        self.log_path = log_path

    async def start(self, *, environment: Mapping[str, str] | None = None) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path.touch()
        await super().start(environment=environment)

    def _log(self, chunk: bytes) -> None:
        with self.log_path.open("ab", buffering=0) as log:
            log.write(chunk)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of the log, earlier runs' too; "" if there is none."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, self.log_path.stat().st_size - _TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(deque(text.splitlines(), maxlen=lines))

    def error(self, message: str) -> ChildError:
        return ChildError(message, name=self.name, log_tail=self.log_tail(), advice=f"its log is {self.log_path}")
