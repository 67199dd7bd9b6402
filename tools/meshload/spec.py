"""Owns what a run is asked to be, as a value that can be handed to another process. Refuses to do any of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from meshload import edges
from meshload.arrivals import Arrival, from_times, read_times, schedule
from meshload.engine import Limits
from meshload.errors import LoadError
from meshload.recording.replay import Replay, arrivals_of
from meshload.stages import RateCurve, Stage
from meshload.targets import TargetOptions

DEFAULT_IN_FLIGHT = {"open": 1024, "closed": 10}
_HARD_LIMIT = 100_000


@dataclass(frozen=True)
class RunSpec:
    """One run over all its processes. Raises LoadError for what no run can be."""

    url: str
    payload: str = "synthetic"
    model: str = ""
    """To whose input pictures are brought; "": the default one."""
    closed: bool = False
    stages: tuple[tuple[float, float, float], ...] = ()
    """(length in s, rate at its start, at its end), without the warm-up; closed: the length counts alone."""
    arrivals: str = "poisson"
    as_recorded: bool = False
    """Arrivals of a trace keep their own rate."""
    edges: int = 0
    """Virtual edges; 0: requests come from one."""
    fps: tuple[float, float] = (1.0, 1.0)
    warmup_s: float = 0.0
    in_flight: int = 1024
    """Of all processes together."""
    timeout_s: float = 10.0
    deadline_ms: tuple[float, float] = (0.0, 0.0)
    """Lowest and highest; drawn evenly between for virtual edges. (0, 0): none."""
    tenants: tuple[tuple[str, float], ...] = ()
    traced: float = 0.0
    """Share of requests with a trace context."""
    processes: int = 1
    seed: int = 1
    connect_timeout_s: float = 5.0
    tls_ca: str = ""
    tls_insecure: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    http2: bool = False
    replay: Replay | None = None
    """What is asked again; in place of `arrivals`, and of `payload` unless it says otherwise."""

    def __post_init__(self) -> None:
        if not 1 <= self.processes <= 256:
            raise LoadError(f"-t {self.processes}: 1 to 256 processes")
        if not self.processes <= self.in_flight <= _HARD_LIMIT:
            raise LoadError(f"-c {self.in_flight}: {self.processes} (one per process) to {_HARD_LIMIT} in flight")
        if self.measured_s <= 0:
            raise LoadError("the run has no length", advice="give -d 30s")
        if not 0 <= self.traced <= 1:
            raise LoadError(f"--trace {self.traced:g} is no share, 0 to 1")
        if self.timeout_s <= 0 or self.warmup_s < 0:
            raise LoadError("--timeout must be above 0, --warmup not below")
        if self.closed and self.edges:
            raise LoadError("--edges has its own rate: it does not go with --closed")

    @property
    def measured_s(self) -> float:
        return sum(length for length, _, _ in self.stages)

    @property
    def asked_rps(self) -> float | None:
        """The mean rate that is asked for; None: closed loop, or a trace at its own rate."""
        if self.closed or self.as_recorded:
            return None
        if self.edges:
            return self.edges * (self.fps[0] + self.fps[1]) / 2
        return sum(length * (start + end) / 2 for length, start, end in self.stages) / self.measured_s

    @property
    def deadline_ns(self) -> int:
        return round(self.deadline_ms[1] * 1e6)

    def limits(self, part: int) -> Limits:
        """Of process `part`."""
        room, more = divmod(self.in_flight, self.processes)
        return Limits(self.warmup_s, self.measured_s, room + (part < more), self.timeout_s)

    def options(self, part: int) -> TargetOptions:
        return TargetOptions(
            in_flight=self.limits(part).in_flight,
            connect_timeout_s=self.connect_timeout_s,
            tls_ca=Path(self.tls_ca) if self.tls_ca else None,
            tls_insecure=self.tls_insecure,
            headers=self.headers,
            method=self.method,
            http2=self.http2,
            streams=self.replay is not None and self.replay.streams,
        )

    def schedule(self, part: int) -> Iterator[Arrival]:
        """The arrivals of process `part`; those of all processes make the schedule of one. Raises LoadError."""
        total_s = self.warmup_s + self.measured_s
        every, tenants = (part, self.processes), dict(self.tenants) or None
        if self.replay:
            return arrivals_of(self.replay, until_ns=round(total_s * 1e9), model=self.model, every=every)
        if self.edges:
            mix = edges.EdgeMix(self.edges, self.fps, self.deadline_ms, tenants, self.seed)
            mine = edges.shared(edges.draw_edges(mix), part=part, of=self.processes)
            return edges.arrivals(mine, until_ns=round(total_s * 1e9))
        kind, _, file = self.arrivals.partition(":")
        if kind == "trace":
            mean_rps = None if self.as_recorded else self.asked_rps
            return from_times(
                read_times(Path(file)), total_s, mean_rps=mean_rps, seed=self.seed, tenants=tenants,
                deadline_ns=self.deadline_ns, every=every,
            )  # fmt: skip
        return schedule(
            self.curve(), self.arrivals, seed=self.seed, tenants=tenants, deadline_ns=self.deadline_ns, every=every
        )

    def curve(self) -> RateCurve:
        """The rate over the whole run. The warm-up has the rate at which the measured time begins."""
        stages = [Stage(*stage) for stage in self.stages]
        if self.warmup_s:
            first = stages[0].start_rps or stages[0].end_rps
            stages.insert(0, Stage(self.warmup_s, first, first))
        return RateCurve(stages)

    def describe(self) -> str:
        """How load is put on, one line."""
        shape = f"{self.processes} process{'es' if self.processes > 1 else ''}, at most {self.in_flight:,} in flight"
        if self.closed:
            return f"closed loop, {self.in_flight:,} in flight, {self.processes} process{'es' * (self.processes > 1)}"
        if self.replay:
            return f"open loop, {self.replay.describe()}; {shape}"
        if self.edges:
            return f"open loop, {self.edges:,} edges at {_range(self.fps)} frames/s; {shape}"
        if self.asked_rps is None:
            return f"open loop, {self.arrivals} as recorded; {shape}"
        return f"open loop, {self.arrivals}, {self.asked_rps:,.6g} requests/s; {shape}"

    def to_document(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_document(document: dict[str, Any]) -> RunSpec:
        def frozen(value: Any) -> Any:
            return tuple(map(frozen, value)) if isinstance(value, list) else value

        values = {key: frozen(value) for key, value in document.items()}
        replay = Replay(**values["replay"]) if values.get("replay") else None
        return RunSpec(**values | {"replay": replay})


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g}" if bounds[0] == bounds[1] else f"{bounds[0]:g} to {bounds[1]:g}"
