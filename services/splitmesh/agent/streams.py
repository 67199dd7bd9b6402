"""Owns what streams a box has: those of its streams file, and what commands changed of them.

The streams file is its operator's and never written:

    [edge]              settings of every edge
    [streams.gate]      one stream: `source`, and whatever else of `splitmesh edge` it has apart
"""

from __future__ import annotations

import json
import logging
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from splitmesh.errors import OutputError, SettingsError, WireError
from splitmesh.settings.model import AgentSettings, EdgeSettings
from splitmesh.settings.resolve import Given, checked
from splitmesh.wire.subjects import check_token

_log = logging.getLogger(__name__)

_VERSION = 1
_OF_ONE = frozenset({"name", "source", "results"})
"""What no two streams can have in common."""
_FROM_AGENT = ("nats_url", "nats_ca", "nats_cert", "nats_key", "nats_creds", "tenant", "log_json")


@dataclass(frozen=True, slots=True)
class Stream:
    """One camera and the edge that serves it. `values`: the edge's settings as they were given, by field."""

    name: str
    values: Mapping[str, Any]

    @property
    def source(self) -> str:
        return str(self.values["source"])

    @property
    def edge(self) -> str:
        return str(self.values["name"])

    def variables(self) -> dict[str, str]:
        """Its settings as the environment of `splitmesh edge`, as lists of processes show command lines to all."""
        return {f"SPLITMESH_EDGE_{key}".upper(): _written(value) for key, value in self.values.items()}


@dataclass(frozen=True, slots=True)
class StreamsFile:
    """What the file says: settings of every edge, and the streams by name."""

    shared: Mapping[str, Given]
    streams: Mapping[str, Stream]


@dataclass(frozen=True, slots=True)
class Change:
    """What a command did to one stream. source: empty for one of the file that was stopped.

    unix_ms: of this machine's clock.
    """

    name: str
    running: bool
    actor: str
    unix_ms: int
    source: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def read_streams(settings: AgentSettings) -> StreamsFile:
    """Raises SettingsError that names the key for a file that can't be read, or that breaks a rule."""
    path = settings.streams
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(f"can't read {path}: {exc.strerror}", key="agent.streams") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} is not valid TOML: {exc}", key="agent.streams") from exc
    rows = {key: table.pop(key, {}) for key in ("edge", "streams")}
    tables = [*rows.values(), *(rows["streams"].values() if isinstance(rows["streams"], dict) else ())]
    if table or not all(isinstance(each, dict) for each in tables):
        raise SettingsError(
            f"{path} is no streams file", key="agent.streams", advice="it has [edge] and one [streams.NAME] for each"
        )
    if apart := sorted(_OF_ONE & rows["edge"].keys()):
        raise SettingsError(f"{path}: {apart[0]} is of one stream, not of [edge]", key=f"edge.{apart[0]}")
    shared = _from_agent(settings) | {key: Given(value, f"[edge] of {path}") for key, value in rows["edge"].items()}
    made = {}
    for name, values in rows["streams"].items():
        given = {key: Given(value, f"[streams.{name}] of {path}") for key, value in values.items()}
        made[name] = make_stream(name, shared | given, agent=settings.name)
    edges = [stream.edge for stream in made.values()]
    if twice := {edge for edge in edges if edges.count(edge) > 1}:
        raise SettingsError(f"{path}: two edges are called {min(twice)}", key="edge.name")
    return StreamsFile(shared, made)


def make_stream(name: str, given: Mapping[str, Given], *, agent: str) -> Stream:
    """Its edge is called AGENT-NAME, and has any free port, unless `given` says otherwise. Raises SettingsError."""
    try:
        check_token(name, field="name")
    except WireError as exc:
        raise SettingsError(exc.message, key="name", advice=exc.advice) from exc
    if "ready_json" in given:
        raise SettingsError("ready_json of its edges is the agent's own", key="edge.ready_json")
    own = {"name": Given(f"{agent}-{name}", "the agent"), "web_port": Given(0, "the agent")}
    whole = own | {key: each for key, each in given.items() if each.value != ""}
    checked(EdgeSettings, whole)
    return Stream(name, {key: each.value for key, each in whole.items()})


class Changes:
    """What commands changed, kept in one file that is replaced whole. `by_name` is the last change of each stream."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.by_name: dict[str, Change] = self._read()

    def keep(self, change: Change) -> None:
        """Raises OutputError when it can't be written; then nothing has changed."""
        changed = self.by_name | {change.name: change}
        self._write(changed)
        self.by_name = changed

    def forget(self, name: str) -> None:
        """Raises OutputError as `keep`."""
        changed = {key: each for key, each in self.by_name.items() if key != name}
        self._write(changed)
        self.by_name = changed

    def _write(self, changed: Mapping[str, Change]) -> None:
        text = json.dumps({"version": _VERSION, "changes": [asdict(each) for each in changed.values()]}, indent=1)
        draft = self._path.with_name(f".{self._path.name}.new")
        try:
            with os.fdopen(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as exc:
            raise OutputError(
                f"can't write {self._path}: {exc.strerror}", path=str(self._path), advice="check agent.changes"
            ) from exc

    def _read(self) -> dict[str, Change]:
        """None of a file that is not one: a box whose cameras do not start would be the greater harm."""
        try:
            table = json.loads(self._path.read_text(encoding="utf-8"))
            if table["version"] != _VERSION:
                raise ValueError(f"version {table['version']!r} is not {_VERSION}")
            return {change.name: change for change in (_change(row) for row in table["changes"])}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, LookupError) as exc:
            _log.error("%s is left aside, and what commands changed with it: %s", self._path, exc)
            return {}


def _written(value: object) -> str:
    """As the environment has it, without loss."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(_written, value)) if isinstance(value, (list, tuple)) else str(value)


def _change(row: Mapping[str, Any]) -> Change:
    change = Change(**row)
    if not isinstance(change.settings, dict):
        raise TypeError(f"{row!r} is no change")
    texts = (change.name, change.actor, change.source, *change.settings, *change.settings.values())
    if not all(isinstance(text, str) for text in texts) or not isinstance(change.running, bool):
        raise TypeError(f"{row!r} is no change")
    return change


def _from_agent(settings: AgentSettings) -> dict[str, Given]:
    """How an edge reaches the broker, unless the file says otherwise."""
    values = {name: getattr(settings, name) for name in _FROM_AGENT}
    return {name: Given(value, "the agent") for name, value in values.items() if value is not None}
