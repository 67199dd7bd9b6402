"""Owns which streams run on a box: starts them, changes them as it is told, ends them all. Keeps what it was told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from splitmesh import __version__
from splitmesh.agent.allowed import check_settings, check_source
from splitmesh.agent.keeper import Keeper, State, Surroundings
from splitmesh.agent.streams import Change, Changes, Stream, StreamsFile, make_stream
from splitmesh.errors import Overloaded, SettingsError, UnknownName
from splitmesh.settings.model import AgentSettings
from splitmesh.settings.resolve import Given
from splitmesh.telemetry.agent import AgentMetrics
from splitmesh.telemetry.logs import masked
from splitmesh.wire.agents import MAX_STREAMS, AgentListing, AgentReport, AgentStream, StreamAudit

_log = logging.getLogger(__name__)

STOPPED = "stopped"
_AUDITS = 50
_NOT_YET = frozenset({State.QUEUED, State.STARTING, State.WAITING})


class Agent:
    """Runs on the event loop, from `begin()` to `drain()`."""

    def __init__(
        self,
        settings: AgentSettings,
        file: StreamsFile,
        changes: Changes,
        around: Surroundings,
        metrics: AgentMetrics,
    ) -> None:
        self._settings = settings
        self._file = file
        self._changes = changes
        self._around = around
        self._metrics = metrics
        self._keepers: dict[str, Keeper] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._audits: deque[StreamAudit] = deque(maxlen=_AUDITS)
        self._began_s = time.monotonic()
        self._reports = 0

    def begin(self) -> None:
        """Start what shall run. What a command once started and is no longer allowed is left out, and said."""
        changed = self._changes.by_name
        wanted = [s for s in self._file.streams.values() if s.name not in changed or changed[s.name].running]
        for change in changed.values():
            if change.running and change.name not in self._file.streams:
                try:
                    wanted.append(self._made(change))
                except SettingsError as exc:
                    _log.error("%s is not started again: %s", change.name, exc, extra={"stream": change.name})
        for stream in wanted[: self._settings.max_streams]:
            self._begin(stream)
        for stream in wanted[self._settings.max_streams :]:
            _log.error("%s is one more than max_streams, and not started", stream.name, extra={"stream": stream.name})

    def start(self, name: str, source: str, settings: Mapping[str, str], *, actor: str) -> None:
        """A stream of the file as it stands there (`source` empty), or a new one that is kept over restarts.

        Raises SettingsError, UnknownName, Overloaded, OutputError; then nothing has changed.
        """
        unix_ms = time.time_ns() // 1_000_000
        change = Change(name, running=True, actor=actor, unix_ms=unix_ms, source=source, settings=dict(settings))
        stream = self._wanted(change)
        keeper = self._keepers.get(name)
        if keeper is not None and keeper.state is State.DRAINING:
            raise Overloaded(f"{name} is ending", advice="start it once it has")
        if keeper is not None and keeper.stream != stream:
            raise SettingsError(f"{name} runs otherwise", key="name", advice="stop it first")
        running = keeper is not None and keeper.state is not State.ENDED
        if not running and sum(each.state is not State.ENDED for each in self._keepers.values()) >= self._most:
            raise Overloaded(f"{self._most} streams run already", advice="max_streams of the agent says how many may")
        if name in self._file.streams:
            self._changes.forget(name)
        elif not running:
            self._changes.keep(change)
        if not running:
            self._begin(stream)
            self._note(change, stream.source)

    def stop(self, name: str, *, actor: str) -> None:
        """Let its edge drain, in the background. Raises UnknownName, OutputError."""
        keeper = self._keepers.get(name)
        in_file = name in self._file.streams
        if not in_file and name not in self._changes.by_name and keeper is None:
            raise UnknownName(f"no stream is called {name}", field="name", name=name)
        change = Change(name, running=False, actor=actor, unix_ms=time.time_ns() // 1_000_000)
        if in_file:
            self._changes.keep(change)
        else:
            self._changes.forget(name)
        if keeper is not None and keeper.state is not State.DRAINING:
            keeper.end()
            task = asyncio.create_task(self._end(keeper), name=f"end of {name}")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            self._note(change, keeper.stream.source)

    async def drain(self) -> None:
        """End all edges at the same time, each after it has settled its frames."""
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers.values()), *self._ending)

    # -- what it tells --------------------------------------------------------------------------------------------

    def listing(self) -> AgentListing:
        return AgentListing(report=self.report(), changes=self._audits)

    def report(self) -> AgentReport:
        made = AgentReport(
            agent_id=self._settings.name,
            seq=self._reports,
            version=__version__,
            run_s=time.monotonic() - self._began_s,
            streams=self._streams()[:MAX_STREAMS],
        )
        self._reports += 1
        return made

    def status(self) -> dict[str, Any]:
        """For `/status`."""
        streams = {}
        for told in self._streams():
            keeper = self._keepers.get(told.name)
            streams[told.name] = {
                "edge": told.edge_id,
                "source": told.source,
                "state": told.state,
                "for_s": round(told.for_s, 1),
                "restarts": told.restarts,
                "last_exit": told.last_exit,
                "web_port": told.web_port or None,
                "pid": keeper.pid if keeper else None,
                "actor": told.actor,
            }
        run_s = round(time.monotonic() - self._began_s, 1)
        return {"agent": self._settings.name, "version": __version__, "run_s": run_s, "streams": streams}

    def readiness(self) -> tuple[bool, str]:
        """Whether every stream that shall run does, and which does not."""
        late = sorted(name for name, keeper in self._keepers.items() if keeper.state in _NOT_YET)
        return not late, f"not running: {', '.join(late)}" if late else ""

    def refresh_metrics(self) -> None:
        states = Counter(told.state for told in self._streams())
        self._metrics.see({state: states[state] for state in (*State, STOPPED)})

    # -- within ---------------------------------------------------------------------------------------------------

    @property
    def _most(self) -> int:
        return self._settings.max_streams

    def _wanted(self, change: Change) -> Stream:
        """What a command asks for. Raises SettingsError, UnknownName."""
        of_file = self._file.streams.get(change.name)
        if of_file is None and not change.source:
            raise UnknownName(
                f"no stream of the file is called {change.name}",
                field="name",
                name=change.name,
                advice="give a source",
            )
        if of_file is None:
            return self._made(change)
        if change.settings or change.source not in ("", of_file.source):
            raise SettingsError(f"{change.name} stands in the streams file", key="name", advice="choose another name")
        return of_file

    def _made(self, change: Change) -> Stream:
        """Raises SettingsError for what commands may not ask for, or what breaks a rule of the edge's."""
        listed = {stream.source for stream in self._file.streams.values()}
        check_source(change.source, listed=listed, patterns=self._settings.allow_source)
        check_settings(change.settings)
        asked = {key: Given(value, f"command of {change.actor}") for key, value in change.settings.items()}
        given = {**self._file.shared, **asked, "source": Given(change.source, f"command of {change.actor}")}
        stream = make_stream(change.name, given, agent=self._settings.name)
        if stream.edge in {each.edge for each in self._file.streams.values()}:
            raise SettingsError(f"an edge is called {stream.edge} already", key="name", advice="choose another name")
        return stream

    def _begin(self, stream: Stream) -> None:
        keeper = self._keepers[stream.name] = Keeper(stream, self._around)
        keeper.begin()

    async def _end(self, keeper: Keeper) -> None:
        await keeper.stop()
        if self._keepers.get(keeper.stream.name) is keeper:
            del self._keepers[keeper.stream.name]

    def _note(self, change: Change, source: str) -> None:
        what = "started" if change.running else STOPPED
        _log.info("%r %s it", change.actor, what, extra={"stream": change.name, "source": masked(source)})
        self._audits.appendleft(
            StreamAudit(
                unix_ms=change.unix_ms, actor=change.actor, stream=change.name, what=what, source=masked(source)
            )
        )

    def _streams(self) -> list[AgentStream]:
        known = {name: keeper.stream for name, keeper in self._keepers.items()}
        return [self._told(stream) for _, stream in sorted((dict(self._file.streams) | known).items())]

    def _told(self, stream: Stream) -> AgentStream:
        keeper = self._keepers.get(stream.name)
        change = self._changes.by_name.get(stream.name)
        made = AgentStream(
            name=stream.name,
            edge_id=stream.edge,
            source=masked(stream.source),
            state=STOPPED if keeper is None else keeper.state.value,
            actor=change.actor if change else "",
        )
        if keeper is not None:
            made.for_s = keeper.for_s
            made.restarts = keeper.restarts
            made.last_exit = keeper.last_exit
            made.web_port = keeper.web_port or 0
        return made
