"""Owns what `GET /status` says of an edge and of a worker, and its JSON form. Computes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from splitmesh.errors import WireError


class _Status:
    """JSON form shared by both: one key per field; missing keys take defaults, unknown ones are ignored."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, row: Any) -> Self:
        """Raises WireError when `row` is no object, lacks a required key or has one of a wrong type."""
        if not isinstance(row, dict):
            raise WireError(f"{cls.__name__} must be a JSON object, not {type(row).__name__}")
        known = {f.name: row[f.name] for f in fields(cls) if f.name in row}  # type: ignore[arg-type]
        for name, value in known.items():
            if not isinstance(value, _KINDS[cls.__annotations__[name]]):
                raise WireError(f"{cls.__name__}.{name} can't be {value!r}")
        try:
            return cls(**known)
        except TypeError as exc:
            raise WireError(f"{cls.__name__}: {exc}") from exc


@dataclass(frozen=True, slots=True)
class EdgeStatus(_Status):
    """One moment of an edge. Rates and percentiles "_5s" (and latency_ms) look back five seconds."""

    edge: str
    policy: str
    run_s: float
    captured: int
    counts: dict[str, int] = field(default_factory=dict)
    """The conservation law's terms: `captured`, then one per Outcome."""
    in_flight: int = 0
    fps: float = 0.0
    hit_rate: float = 0.0
    """Deadline hits over settled frames, whole run, [0, 1]."""
    hit_rate_5s: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=dict)
    """`p50`, `p95`, `p99` of capture to result; empty when nothing was answered lately."""
    decisions_5s: dict[str, int] = field(default_factory=dict)
    """Place → decisions."""
    link: dict[str, float] = field(default_factory=dict)
    """`bandwidth_bps`, `bandwidth_low_bps` and `bandwidth_high_bps` (80 % interval), `base_ms`, `backlog_bytes`."""
    uplink_bps: float = 0.0
    uplink_bytes: int = 0
    breaker: str = "closed"
    """closed, open or half-open."""
    gamma_edge: float = 1.0
    gamma_cloud: float = 1.0
    broker: str = "connecting"
    source: str = ""
    """As given, without passwords."""
    finished: bool = False
    """True once the source has ended and every frame is settled."""
    pool: dict[str, int] = field(default_factory=dict)
    """Requests of the whole run by how their worker was chosen, second ones, ejections; keys as in metrics."""
    power_w: float = 0.0
    """Predicted average over the whole run, by the device's power model."""
    audits: int = 0
    """Answers that were held against the whole model's."""
    error_ratios: dict[str, dict[str, float]] = field(default_factory=dict)
    """Kind of point → `still`, `moving`: how many times the error that the plan has of it was found in audits."""


@dataclass(frozen=True, slots=True)
class CloudStatus(_Status):
    """One moment of a worker."""

    worker: str
    models: list[str] = field(default_factory=list)
    queue_depth: int = 0
    predicted_wait_ms: float = 0.0
    served: int = 0
    """Requests answered."""
    nacked: dict[str, int] = field(default_factory=dict)
    """NACK code → refusals."""
    ready: bool = False
    draining: bool = False
    tenants: dict[str, dict[str, float]] = field(default_factory=dict)
    """Tenant → `queue_depth`, `running`, `predicted_wait_ms` (for its turn and its quotas), `served`, `refused`,
    `over_quota`, `streams`."""


_KINDS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "list[str]": list,
    "dict[str, int]": dict,
    "dict[str, float]": dict,
    "dict[str, dict[str, float]]": dict,
}
