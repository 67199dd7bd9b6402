"""Owns one child process: its start, its ready file, what it says and its end. Refuses to leave an orphan behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from splitmesh.errors import MeshError
from splitmesh.process.leash import leash_command

_READ_BYTES = 64 * 1024
_READY_POLL_S = 0.05
_TAIL_BYTES = 8 * 1024
"""Of what it said last, that is remembered."""


class ChildError(MeshError):
    """A child process died or never said that it was ready; `name` says which, `log_tail` what it last said."""

    def __init__(self, message: str, *, name: str, log_tail: str, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.name = name
        self.log_tail = log_tail


class Child:
    """One process in its own process group; what it writes to stdout and stderr goes to `output` as it comes.

    It is ready when it has written a JSON object to `ready_file`. It dies with this process, however that ends.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        output: Callable[[bytes], None],
        ready_file: Path,
        cores: tuple[int, ...] = (),
        niceness: int = 0,
        commanded: bool = False,
    ) -> None:
        """niceness: see `leash_command`. commanded: it reads what `tell` writes from its standard input."""
        self.name = name
        self.command = command
        self.cores = cores
        self.niceness = niceness
        self.commanded = commanded
        self.ready_file = ready_file
        self.ready_facts: dict[str, Any] | None = None
        """What it said when it was ready."""
        self._output = output
        self._tail = b""
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ending = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        return self._process.returncode if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def died(self) -> bool:
        """True if it ended with an error although nobody asked it to end."""
        return self._process is not None and self._process.returncode not in (None, 0) and not self._ending

    async def start(self, *, environment: Mapping[str, str] | None = None) -> None:
        """Start it with `environment` (default: this process's own)."""
        self.ready_file.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *leash_command(self.command, cores=self.cores, niceness=self.niceness),
            stdin=asyncio.subprocess.PIPE if self.commanded else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env={**(os.environ if environment is None else environment), "PYTHONUNBUFFERED": "1"},
        )
        self._reader = asyncio.create_task(self._read(), name=f"log of {self.name}")

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None  # noqa: S101 - set by start()
        while chunk := await self._process.stdout.read(_READ_BYTES):
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
            self._output(chunk)

    def poll_ready(self) -> bool:
        """Whether it has said that it is ready; looks at the ready file, does not wait."""
        if self.ready_facts is None and self.ready_file.exists():  # it appears whole or not at all
            self.ready_facts = json.loads(self.ready_file.read_bytes())
        return self.ready_facts is not None

    async def _until_ready(self) -> None:
        while not self.poll_ready():  # noqa: ASYNC110 - a file of another process has no event to wait for
            await asyncio.sleep(_READY_POLL_S)

    async def wait_ready(self, timeout_s: float) -> dict[str, Any]:
        """What it said when it was ready. Raises ChildError if it ends or stays silent for `timeout_s`."""
        ready = asyncio.create_task(self._until_ready())
        ended = asyncio.create_task(self.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ready, ended):
                task.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)
        self.poll_ready()  # it may have said so and ended within one poll
        if self.ready_facts is not None:
            return self.ready_facts
        if not self.running:
            raise self.error(f"{self.name} ended with {self.ending()} before it was ready")
        raise self.error(f"{self.name} was not ready within {timeout_s:g} s")

    async def wait(self) -> int:
        """The exit status, once the process has ended and its log is complete."""
        assert self._process is not None and self._reader is not None  # noqa: S101 - set by start()
        code = await self._process.wait()
        await asyncio.wait({self._reader}, timeout=2.0)  # a grandchild may still hold the pipe
        return code

    def send(self, number: signal.Signals) -> None:
        """Send `number` to the process itself (not its group): it drains its own children."""
        self._ending = self._ending or number is not signal.SIGUSR1
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def tell(self, line: str) -> None:
        """Write one line to its standard input. Raises ChildError: nobody is there to read it."""
        pipe = self._process.stdin if self._process is not None and self.running else None
        if pipe is None:
            raise self.error(f"{self.name} takes no commands")
        try:
            pipe.write(line.encode() + b"\n")
            await pipe.drain()
        except OSError as exc:
            raise self.error(f"{self.name} is gone") from exc

    async def stop(self, *, grace_s: float = 5.0, first: signal.Signals = signal.SIGTERM) -> int | None:
        """`first`, then after `grace_s` SIGKILL to the whole group. Idempotent; returns the exit status."""
        if self._process is None:
            return None
        if self.running:
            self.send(first)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), grace_s)
        self.kill_group()
        return await self.wait()

    async def kill(self) -> None:
        """SIGKILL to the whole group, as a crash or a power cut would do it."""
        self._ending = True
        self.kill_group()
        await self.wait()

    def kill_group(self) -> None:
        """SIGKILL whatever is left of the process group. Needs no event loop; never raises if it is gone."""
        if self._process is not None:
            self._ending = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def ending(self) -> str:
        """How it ended, in words: "exit status 2", "SIGKILL", or "still running"."""
        code = self.returncode
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit status {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that it wrote, "" if there are none."""
        return "\n".join(deque(self._tail.decode("utf-8", "replace").splitlines(), maxlen=lines))

    def error(self, message: str) -> ChildError:
        return ChildError(message, name=self.name, log_tail=self.log_tail())

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} {self.ending()}>"
