"""Owns what a simulation is given of the lab run that it is held against. Everything here is measured or set.

What was set: plan, link, outages, deadline, slowdown, length. What is measured: frames per second, how long frames
take to their decision and between their parts, when the link's trace began, when a worker was gone, what a message
takes beside the link, the video itself (`bench.simlab_video`), and how far times and sizes lie from the plan's
(`bench.simlab_scales`): the machine that the lab runs on is not the profile's and is shared by all its processes, and
the video is not the plan's. Nothing is fitted to how the run came out.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from bench.simlab_beyond import beyond_link_ms
from bench.simlab_scales import Scales, scales_of, spread_as
from bench.simlab_video import Video, kappa_of, motions_of

from splitmesh.errors import SettingsError
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.scenario import Burst, Loss, Scenario

_BEYOND_S = 60.0
"""How long a scale holds after the last frame."""
_TRACKED = ("track", Outcome.TRACKED)
_PLACES = {"local": Outcome.LOCAL, "split": Outcome.SPLIT, "frame": Outcome.FRAME}
_BEFORE_DECIDED = frozenset({"preprocess", "decide"})
_QUANTILES = 41


@dataclass(frozen=True, slots=True)
class Given:
    """What `simulate` takes beside a seed and a policy. `plan`: its points as the policy knows them, spread as the
    run was. `trace` has no outages but its own and those asked for."""

    plan: SimPlan
    trace: LinkTrace
    scenario: Scenario
    scales: Scales

    def document(self) -> dict[str, Any]:
        """As JSON takes it; of the pictures' motion only how many there are."""
        scenario = asdict(self.scenario) | {"motions": len(self.scenario.motions)}
        return {"scenario": scenario, "scales": asdict(self.scales)}


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
    slowdown, deadline_ms = float(summary["edge_slowdown"]), float(summary["deadline_ms"])
    points = {point.name: point for point in plan.points}
    scales = scales_of(records, points, slowdown=slowdown)
    lasting_s = duration_s + _BEYOND_S
    begin_s = trace_start_s(trace, summary)
    scenario = Scenario(
        duration_s=duration_s,
        fps=fps,
        deadline_ms=deadline_ms,
        prepare_quantiles_ms=prepared_ms(records, most_ms=deadline_ms),
        handover_ms=handover_ms(records),
        stack_ms=stack_ms(beyond_link_ms(records, points, trace, start_s=begin_s)),
        edge_slowdown=slowdown,
        trace_start_s=begin_s,
        motions=motions_of(records, video),
        track_kappa=kappa_of(records, video, fps=fps),
        encode_scales=scales.encode_factors(plan.points),
        size_scales={codec: scale.mean for codec, scale in scales.size.items()},
        edge_bursts=(Burst(-1.0, lasting_s, scales.edge.median),),
        worker_bursts=(Burst(-1.0, lasting_s, scales.cloud.median),),
        losses=tuple(losses(records, summary)),
    )
    return Given(spread_as(plan, scales), trace, scenario, scales)


# -- what no part of a frame accounts for ---------------------------------------------------------------------------


def prepared_ms(records: Iterable[FrameRecord], *, most_ms: float) -> tuple[float, ...]:
    """Capture to decision, ms: quantiles at even steps over frames that were tracked at once, at most `most_ms`.

    All that such a frame takes passes before it is decided, the hand-over from the decoder included. Where there is
    none, over frames that were answered as decided, here if there are such, less what is timed after it. Empty
    without either.
    """
    tracked, beside = _beside_ms(records)
    found = tracked or beside["local"] or beside["split"] + beside["frame"]
    if not found:
        return ()
    quantiles: list[float] = np.quantile(found, np.linspace(0, 1, _QUANTILES)).clip(0.0, most_ms).tolist()
    return tuple(quantiles)


def handover_ms(records: Iterable[FrameRecord]) -> dict[str, float]:
    """By place: what answered frames took beside all that is timed, in excess of those that are tracked at once;
    medians. Empty where nothing was tracked at once: it is then part of `prepared_ms`."""
    tracked, beside = _beside_ms(records)
    if not tracked:
        return {}
    usual_ms = statistics.median(tracked)
    return {place: max(0.0, statistics.median(found) - usual_ms) for place, found in beside.items() if found}


def _beside_ms(records: Iterable[FrameRecord]) -> tuple[list[float], dict[str, list[float]]]:
    """(of frames tracked at once, by place of frames that were answered as decided): latency less timed parts."""
    tracked: list[float] = []
    beside: dict[str, list[float]] = {place: [] for place in _PLACES}
    for record in records:
        if record.latency_ms is None:
            continue
        place = record.point.partition("/")[0]
        rest_ms = record.latency_ms - sum(ms for part, ms in record.times_ms.items() if part not in _BEFORE_DECIDED)
        if (record.point, record.outcome) == _TRACKED:
            tracked.append(rest_ms)
        elif _PLACES.get(place) is record.outcome:
            beside[place].append(rest_ms)
    return tracked, beside


def stack_ms(beyond_ms: Sequence[float]) -> float:
    """Each way, from what messages took beside the link both ways. The simulator's own where none was answered."""
    return max(0.0, statistics.median(beyond_ms) / 2) if beyond_ms else Scenario().stack_ms


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
