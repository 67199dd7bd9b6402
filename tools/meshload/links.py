"""Owns `--link`: the project's own link emulator between us and the target, as a process of its own.

`splitmesh link` runs as a child, so that shaping bytes takes no time from the generator's core; it dies with us.
Its trace begins with `begin`, so that connecting and warming up do not use the trace up.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from meshload.errors import LoadError, TargetError
from splitmesh.errors import SettingsError
from splitmesh.lab.child import Child, ChildError
from splitmesh.lab.commands import clean_environment, command_line
from splitmesh.provision.link.presets import load_link

PORTS: Final = {"nats": 4222, "nats-raw": 4222, "http": 80, "kserve": 8000, "grpc": 50051}
"""Of schemes that a link can carry, where the URL names no port."""
_READY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Linked:
    """A target behind a link."""

    url: str
    """The target's URL with the relay's address in it."""
    description: str
    """Of the link, one line."""
    _child: Child = field(repr=False)
    _stats: Path = field(repr=False)

    def begin(self) -> None:
        """Second 0 of the trace is now. Only the first call counts."""
        self._child.send(signal.SIGUSR1)

    def seconds(self) -> list[dict[str, Any]]:
        """What the relay counted, one row per second of the trace so far: see `splitmesh link --stats`."""
        rows: list[dict[str, Any]] = []
        for line in self._stats.read_text("utf-8").splitlines() if self._stats.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break  # the last one is being written
        return rows


@asynccontextmanager
async def through_link(
    url: str, link: str, *, duration_s: float, down_bps: float | None = None, seed: int = 0
) -> AsyncIterator[Linked]:
    """`url` behind `link`, a preset's name or a trace file, as long as the context lasts.

    duration_s: length that a preset is laid out for. down_bps: rate of the way back; None: what the trace says.
    Raises TargetError for a URL that no link can carry, LoadError for a link that there is not, or that can't start.
    """
    parts = urlsplit(url)
    target = relayed_address(url)
    try:
        trace = load_link(link, duration_s=duration_s)
    except SettingsError as exc:
        raise LoadError(f"--link {exc.message}", advice=exc.advice) from exc
    with tempfile.TemporaryDirectory(prefix="meshload-link-") as folder:
        child, stats = _child(Path(folder), target, link, duration_s=duration_s, down_bps=down_bps, seed=seed)
        try:
            await child.start(environment=clean_environment(os.environ))
            facts = await child.wait_ready(_READY_S)
            yield Linked(behind(parts, int(facts["port"])), trace.describe(), child, stats)
        except ChildError as exc:
            raise LoadError(f"--link {link}: {exc.message}", advice=exc.log_tail) from exc
        finally:
            await child.stop()


def relayed_address(url: str) -> str:
    """HOST:PORT that the relay connects to. Raises TargetError for a scheme that it can't carry."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise TargetError(
            "is encrypted: its certificate names the host, and the link would stand in for it",
            url=url,
            advice=f"--link takes {', '.join(f'{scheme}://' for scheme in PORTS)}",
        )
    if not parts.hostname:
        raise TargetError("names no host", url=url, advice=f"write it as {parts.scheme}://host:port/…")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or PORTS[parts.scheme]}"


def behind(parts: SplitResult, port: int) -> str:
    """The URL with the relay on 127.0.0.1:`port` in place of its host; user, path and query stay."""
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{port}"))


def _child(
    folder: Path, target: str, link: str, *, duration_s: float, down_bps: float | None, seed: int
) -> tuple[Child, Path]:
    ready, stats = folder / "ready.json", folder / "seconds.jsonl"
    values = {
        "target": target,
        "link": link,
        "duration_s": duration_s,
        "seed": seed,
        "start": "signal",
        "stats": stats,
        "ready_json": ready,
        **({} if down_bps is None else {"down_bps": down_bps}),
    }
    return Child("link", command_line("link", values), log_path=folder / "link.log", ready_file=ready), stats
