"""Owns what a simulation is given of the lab run that it is held against. Everything here is measured or set.

What was set: plan, link, outages, deadline, slowdown, length. What is measured: frames per second, `prepare_ms`, when
the link's trace began, when a worker was gone, the video itself (`bench.simlab_video`), and three scales, each the
median of measured ÷ profiled time in that run: model runs on the edge (the emulated slowdown apart), encoders, and
what workers do. The machine that the lab runs on is not the profile's, and is shared by all its processes. Nothing is
fitted to how the run came out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from bench.simlab_video import Video, kappa_of, motion_of

from splitmesh.errors import SettingsError
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.scenario import Burst, Loss, Scenario

_BEYOND_S = 60.0
"""How long a scale holds after the last frame."""
_ALONE = frozenset({("track", Outcome.TRACKED), ("local", Outcome.LOCAL)})


@dataclass(frozen=True, slots=True)
class Scale:
    """Of measured ÷ profiled times. `sigma`: standard deviation of the logarithm, by quartiles; told, not used."""

    median: float = 1.0
    sigma: float = 0.0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Scales:
    edge: Scale
    encode: Scale
    cloud: Scale


@dataclass(frozen=True, slots=True)
class Given:
    """What `simulate` takes beside a seed and a policy. `trace` has no outages but its own and those asked for."""

    plan: SimPlan
    trace: LinkTrace
    scenario: Scenario
    scales: Scales

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"scenario": asdict(self.scenario), "scales": asdict(self.scales)}


def given(
    plan: SimPlan, trace: LinkTrace, records: Sequence[FrameRecord], summary: Mapping[str, Any], video: Video
) -> Given:
    """`plan`: with the points that the policy had; `trace`: as the lab loaded it; `summary`: the lab's.

    Raises SettingsError for a run of fewer than two frames.
    """
    if len(records) < 2:
        raise SettingsError(f"a run of {len(records)} frame(s) can't be simulated", key="records")
    fps = 1e9 * (records[-1].seq - records[0].seq) / (records[-1].pts_ns - records[0].pts_ns)
    duration_s = len(records) / fps
    slowdown = float(summary["edge_slowdown"])
    scales = scales_of(records, {point.name: point for point in plan.points}, slowdown=slowdown)
    moved = motion_of(records, video, fps=fps)
    lasting_s = duration_s + _BEYOND_S
    scenario = Scenario(
        duration_s=duration_s,
        fps=fps,
        deadline_ms=float(summary["deadline_ms"]),
        prepare_ms=prepare_ms(records),
        edge_slowdown=slowdown,
        trace_start_s=trace_start_s(trace, summary),
        motion=moved.motion,
        motion_spread=moved.spread,
        memory_s=moved.memory_s,
        track_kappa=kappa_of(records, video, fps=fps),
        edge_bursts=(Burst(-1.0, lasting_s, scales.edge.median),),
        worker_bursts=(Burst(-1.0, lasting_s, scales.cloud.median),),
        losses=tuple(losses(records, summary)),
    )
    # The simulator has no scale for encoders: profiled times are longer instead, which a policy knows from the start.
    points = tuple(replace(point, encode_ms=point.encode_ms * scales.encode.median) for point in plan.points)
    return Given(replace(plan, points=points), trace, scenario, scales)


# -- times --------------------------------------------------------------------------------------------------------


def scales_of(records: Iterable[FrameRecord], points: Mapping[str, OperatingPoint], *, slowdown: float) -> Scales:
    """Of all parts that ran; runs of a place that the plan has no time for teach nothing."""
    edge, encode, cloud = [], [], []
    for record in records:
        point, took = points.get(record.point), record.times_ms
        if point is None:
            continue
        whole = point if point.place is Place.LOCAL else points["local"]
        profiled = {"local": whole.edge_ms, "head": point.edge_ms, "resume": point.resume_ms}
        edge += [took[part] / (slowdown * ms) for part, ms in profiled.items() if part in took and ms > 0]
        if "encode" in took and point.encode_ms > 0:
            encode.append(took["encode"] / point.encode_ms)
        if "tail" in took and point.cloud_ms > 0:
            cloud.append((took["decode"] + took["tail"]) / (point.decode_ms + point.cloud_ms))
    return Scales(_scale(edge), _scale(encode), _scale(cloud))


def _scale(ratios: Sequence[float]) -> Scale:
    known = [ratio for ratio in ratios if ratio > 0]
    if not known:
        return Scale()
    low, middle, high = np.quantile(np.log(known), (0.25, 0.5, 0.75)).tolist()
    return Scale(math.exp(middle), (high - low) / 1.349, len(known))


def prepare_ms(records: Iterable[FrameRecord]) -> float:
    """Capture to decision, ms: median over frames that never left the device of all that passed before the decision.

    That is latency less the parts after it, so that the hand-over from the decoder counts. 0 without such frames.
    """
    before = []
    for record in records:
        alone = (record.point, record.outcome) in _ALONE
        if alone and record.latency_ms is not None:
            after_ms = sum(ms for part, ms in record.times_ms.items() if part != "preprocess")
            before.append(max(0.0, record.latency_ms - after_ms))
    return statistics.median(before) if before else 0.0


# -- link and worker ----------------------------------------------------------------------------------------------


def trace_start_s(trace: LinkTrace, summary: Mapping[str, Any]) -> float:
    """Second of the trace at which the first frame was captured: known from the first outage, else 0."""
    if not trace.outages or not summary["outages"]:
        return 0.0
    first_s = min(outage.start_s for outage in trace.outages)
    return float(first_s - min(outage["start_s"] for outage in summary["outages"]))


def losses(records: Sequence[FrameRecord], summary: Mapping[str, Any]) -> Iterable[Loss]:
    """A killed worker is gone until a frame is captured that a worker answers again, or to the run's end."""
    for killed_s in summary["worker_kills"]:
        answered = (r.captured_ns / 1e9 for r in records if r.worker and r.captured_ns / 1e9 > killed_s)
        back_s = min(answered, default=records[-1].captured_ns / 1e9 + _BEYOND_S)
        yield Loss(0, killed_s, back_s - killed_s)
