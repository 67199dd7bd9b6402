"""Owns the two oracles: what a policy could have had that knew the link and all luck beforehand.

They plan over a simpler world than the simulator's: a serial device, a first-in first-out link at the trace's rate, a
pool of servers, the tracker. In it streams need no keys, nothing is estimated, refused or resumed, jitter is absent,
and only an outage that cuts connections loses a message: kinder than what a policy meets, with the same draws. So a
policy's utility over the horizon oracle's is a ratio that hardly errs in the policy's favour. It could: a beam search
finds no proven optimum.

`oracle-greedy` takes what is best for each frame and, of equals, what leaves least behind. `oracle-horizon` keeps the
best `WIDTH` histories of choices, told apart by what they leave queued and what they track from (beam search; Lowerre
1976).
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from splitmesh.frames.outcome import Outcome
from splitmesh.policy.payloads import MESSAGE_BYTES, STREAM_MESSAGE_BYTES
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.curve import Curve
from splitmesh.sim.draws import Draws, draw
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.result import RunResult, Settled
from splitmesh.sim.scenario import Scenario, slowed

WIDTH: Final = 16
ORACLES: Final = {"oracle-greedy": 1, "oracle-horizon": WIDTH}
"""Name → histories that are kept."""
_TRACK_MARGIN_S = 0.006
_REPLY_BYTES = 500
_BEYOND_S = 10.0
"""What would arrive so long after the last frame never does."""
_REMOTE = frozenset({Place.SPLIT, Place.FRAME})
_GRID_S = 0.008
"""Histories whose queues differ by less are alike."""
_FREE_PERIODS = 0.5
"""Of the pool's time a frame may take without a price, as it does where nothing queues there."""
_BEHIND = (0.03, 0.1)
"""What a frame period's worth of queue is taken to cost those that come after: the better of two searches counts, as
a dear queue finds more where the device is all there is."""


class _State(NamedTuple):
    """Times in seconds of the run."""

    score: float
    edge_free_s: float
    link_free_s: float
    servers_s: tuple[float, ...]
    """When each is free, ascending."""
    newest: int
    """Frame that the tracker's answer is of; -1: there is none."""
    worth: float
    coming: tuple[tuple[float, int, float], ...]
    """(when, frame, worth) of answers that are not there yet, ascending."""
    chosen: _Chosen | None


class _Chosen(NamedTuple):
    """What was done with one frame, and before."""

    option: _Option | None
    """None: tracked at once."""
    tracked: bool
    answered_s: float
    fidelity: float
    hit: bool
    before: _Chosen | None


def foresee(plan: SimPlan, trace: LinkTrace, scenario: Scenario, *, seed: int, width: int = WIDTH) -> RunResult:
    """The best choices for `trace` and the luck of `seed` that a beam of `width` histories finds (1: greedily), and
    what comes of them. Events are not counted: 0."""
    world = _Simple(plan, trace, scenario, draw(scenario, seed))
    return max(
        (
            _result(_searched(world, scenario, width, behind), scenario)
            for behind in (_BEHIND if width > 1 else _BEHIND[:1])
        ),
        key=lambda result: sum(frame.fidelity for frame in result.frames if frame.hit),
    )


def _searched(world: _Simple, scenario: Scenario, width: int, behind: float) -> _State:
    states = [_State(0.0, 0.0, 0.0, (0.0,) * (scenario.workers * scenario.slots), -1, 0.0, (), None)]
    for seq in range(scenario.frames):
        options = world.options(seq)
        alike: dict[tuple[int, ...], tuple[float, _State]] = {}
        for state in states:
            for after in world.choices(state, seq, options):
                promise = after.score - behind * world.queued_frames(after, seq)
                key = world.kind(after, seq)
                if key not in alike or promise > alike[key][0]:
                    alike[key] = promise, after
        ranked = sorted(alike.values(), key=lambda each: -each[0])
        states = [state for _, state in ranked[:width]]
    return max(states, key=lambda state: state.score)


def _result(state: _State, scenario: Scenario) -> RunResult:
    done: list[_Chosen] = []
    link = state.chosen
    while link is not None:
        done.append(link)
        link = link.before
    frames = tuple(_settled(each, seq, scenario) for seq, each in enumerate(reversed(done)))
    outcomes = {outcome.value: sum(frame.outcome is outcome for frame in frames) for outcome in Outcome}
    sent_bytes = sum(each.option.message_bytes for each in done if each.option and each.option.place in _REMOTE)
    span_s = scenario.frames * scenario.period_ns / 1e9
    return RunResult(frames, sent_bytes, {"captured": len(frames), **outcomes}, span_s, 0)


def _settled(each: _Chosen, seq: int, scenario: Scenario) -> Settled:
    option = each.option
    outcome = Outcome.TRACKED if option is None or each.tracked else Outcome(option.place.value)
    latency_ms = (each.answered_s - seq * scenario.period_ns / 1e9) * 1e3
    return Settled(outcome, option.name if option else "track", latency_ms, each.hit, each.fidelity)


class _Option(NamedTuple):
    """One point for one frame, all luck drawn. Seconds."""

    name: str
    place: Place
    fidelity: float
    device_s: float
    encode_s: float
    message_bytes: int
    remote_s: float


class _Simple:
    """What becomes of a choice, with everything known."""

    def __init__(self, plan: SimPlan, trace: LinkTrace, scenario: Scenario, draws: Draws) -> None:
        begin_s = scenario.trace_start_s
        if scenario.outages:
            trace = trace.with_outages([replace(o, start_s=begin_s + o.start_s) for o in scenario.outages])
        self._plan = plan
        self._up, self._down = trace, trace.downlink()
        end_s = begin_s + scenario.duration_s + _BEYOND_S
        self._up_curve = Curve(self._up, begin_s=begin_s, end_s=end_s)
        self._down_curve = Curve(self._down, begin_s=begin_s, end_s=end_s)
        self._cuts = [outage for outage in trace.outages if outage.cut]
        self._begin_s = begin_s
        self._scenario = scenario
        self._stack_s = scenario.stack_ms / 1e3
        self._draws = draws
        self._period_s = scenario.period_ns / 1e9
        self._kappa = plan.track_kappa if scenario.track_kappa is None else scenario.track_kappa
        self._points = _worth_trying(plan.points)
        starts_s = [begin_s + (seq + 1) * self._period_s for seq in range(scenario.frames)]
        self._reach_s = [trace.step_at(at_s).delay_ms / 1e3 + self._stack_s for at_s in starts_s]
        """By frame, from the link's end to the pool when the next one comes."""

    def options(self, seq: int) -> list[_Option]:
        """All that can be done with frame `seq` but to track it."""
        return [self._option(point, seq) for point in self._points]

    def choices(self, state: _State, seq: int, options: Iterable[_Option]) -> Iterable[_State]:
        """`state` after each thing that can be done with frame `seq`."""
        now_s = seq * self._period_s + self._draws.prepare_ms[seq] / 1e3
        state = _told(state, now_s)
        if state.newest >= 0:
            kept = self._tracked(state, seq)
            yield _chosen(state, _Chosen(None, True, now_s, kept, True, state.chosen))
        for option in options:
            if option.place is Place.LOCAL:
                done_s = max(now_s, state.edge_free_s) + option.device_s
                yield self._answered(state._replace(edge_free_s=done_s), option, seq, done_s)
            elif (sent := self._sent(state, option, seq, now_s)) is not None:
                yield sent

    def queued_frames(self, state: _State, seq: int) -> float:
        """What queues before device, link and pool, in frame periods."""
        next_s = (seq + 1) * self._period_s
        queued_s = max(0.0, state.edge_free_s - next_s) + max(0.0, state.link_free_s - next_s)
        return (queued_s + self._pool_s(state, seq)) / self._period_s

    def kind(self, state: _State, seq: int) -> tuple[int, ...]:
        """Histories of one kind have about the same future."""
        next_s = (seq + 1) * self._period_s
        newest = max([state.newest, *(of for _, of, _ in state.coming)])
        free_s = max(state.edge_free_s, next_s), max(state.link_free_s, next_s), self._pool_s(state, seq)
        return *(round(each_s / _GRID_S) for each_s in free_s), newest

    def _pool_s(self, state: _State, seq: int) -> float:
        """What queues before the pool. While the link is what holds frames up, a busy server makes no difference."""
        reached_s = max(state.link_free_s, (seq + 1) * self._period_s) + self._reach_s[seq]
        return max(0.0, state.servers_s[0] - reached_s - _FREE_PERIODS * self._period_s)

    # -- places ---------------------------------------------------------------------------------------------------

    def _sent(self, state: _State, option: _Option, seq: int, now_s: float) -> _State | None:
        """None if it would be lost."""
        ready_s, edge_free_s = now_s, state.edge_free_s
        if option.place is Place.SPLIT:
            ready_s = edge_free_s = max(now_s, edge_free_s) + option.device_s
        handed_s = ready_s + option.encode_s
        sent_s = self._up_curve.finish_s(max(handed_s, state.link_free_s), option.message_bytes)
        arrived_s = self._landed_s(self._up, sent_s)
        if arrived_s == math.inf or self._cut(handed_s, arrived_s):
            return None
        factor = slowed(self._scenario.worker_bursts, round(arrived_s * 1e9))
        served_s = max(arrived_s + self._stack_s, state.servers_s[0]) + factor * option.remote_s
        back_s = self._landed_s(self._down, self._down_curve.finish_s(served_s, _REPLY_BYTES)) + self._stack_s
        if back_s == math.inf or self._cut(served_s, back_s):
            return None
        servers = list(state.servers_s[1:])
        insort(servers, served_s)
        state = state._replace(edge_free_s=edge_free_s, link_free_s=sent_s, servers_s=tuple(servers))
        return self._answered(state, option, seq, back_s)

    def _option(self, point: OperatingPoint, seq: int) -> _Option:
        draws, spread = self._draws, self._plan.spread(point)
        captured_ns = seq * self._scenario.period_ns
        slower = self._scenario.edge_slowdown * slowed(self._scenario.edge_bursts, captured_ns)
        size = self._scenario.size_scales.get(point.codec, 1.0)
        size *= math.exp(spread.size * draws.size_z[seq] - spread.size**2 / 2)
        encode_ms = point.encode_ms * self._scenario.encode_scales.get(point.codec, 1.0)
        remote_ms = point.decode_ms * math.exp(spread.decode * draws.decode_z[seq])
        remote_ms += point.cloud_ms * math.exp(spread.cloud * draws.cloud_z[seq])
        return _Option(
            name=point.name,
            place=point.place,
            fidelity=point.fidelity,
            device_s=slower * point.edge_ms / 1e3 * math.exp(spread.edge * draws.edge_z[seq]),
            encode_s=encode_ms / 1e3 * math.exp(spread.encode * draws.encode_z[seq]),
            message_bytes=round(point.payload_bytes * size + _around(point)),
            remote_s=remote_ms / 1e3,
        )

    def _landed_s(self, path: LinkTrace, finish_s: float) -> float:
        if finish_s == math.inf:
            return math.inf
        at_s = self._begin_s + finish_s
        out_s = at_s + path.step_at(at_s).delay_ms / 1e3
        outage = path.outage_at(out_s) if path.outages else None
        return (outage.end_s if outage else out_s) - self._begin_s

    def _cut(self, from_s: float, to_s: float) -> bool:
        begin_s = self._begin_s
        return any(begin_s + from_s < cut.end_s and cut.start_s < begin_s + to_s for cut in self._cuts)

    # -- answers --------------------------------------------------------------------------------------------------

    def _answered(self, state: _State, point: _Option, seq: int, done_s: float) -> _State:
        """The model's answer is there at `done_s`: in time, or after the tracker has stood in."""
        deadline_s = seq * self._period_s + self._scenario.deadline_ms / 1e3
        coming = tuple(sorted((*state.coming, (done_s, seq, point.fidelity))))
        state = state._replace(coming=coming)
        if done_s <= deadline_s - _TRACK_MARGIN_S:
            return _chosen(state, _Chosen(point, False, done_s, point.fidelity, True, state.chosen))
        then = _told(state, deadline_s - _TRACK_MARGIN_S)
        if then.newest < 0:  # nothing to track from: it is waited for
            hit = done_s <= deadline_s
            return _chosen(state, _Chosen(point, False, done_s, point.fidelity, hit, state.chosen))
        kept = self._tracked(then, seq)
        return _chosen(state, _Chosen(point, True, deadline_s - _TRACK_MARGIN_S, kept, True, state.chosen))

    def _tracked(self, state: _State, seq: int) -> float:
        travelled = self._draws.travelled
        return state.worth * math.exp(-self._kappa * abs(travelled[seq] - travelled[state.newest]))


def _chosen(state: _State, done: _Chosen) -> _State:
    return state._replace(score=state.score + done.fidelity * done.hit, chosen=done)


def _told(state: _State, now_s: float) -> _State:
    """`state` once all answers that come until then are there."""
    if not state.coming or state.coming[0][0] > now_s:
        return state
    newest, worth, left = state.newest, state.worth, list(state.coming)
    while left and left[0][0] <= now_s:
        _, seq, fidelity = left.pop(0)
        if seq > newest:
            newest, worth = seq, fidelity
    return state._replace(newest=newest, worth=worth, coming=tuple(left))


def _worth_trying(points: Iterable[OperatingPoint]) -> list[OperatingPoint]:
    """Points that no other betters in everything that counts here, where a stream needs no key."""
    candidates = [point for point in points if point.place is not Place.TRACK]
    costs = {point.name: _costs(point) for point in candidates}
    return [
        point
        for point in candidates
        if not any(
            costs[other.name] != costs[point.name]
            and all(o <= m for o, m in zip(costs[other.name], costs[point.name], strict=True))
            for other in candidates
        )
    ]


def _costs(point: OperatingPoint) -> tuple[float, ...]:
    return (
        point.edge_ms + point.encode_ms,
        point.payload_bytes + _around(point),
        point.decode_ms + point.cloud_ms,
        -point.fidelity,
    )


def _around(point: OperatingPoint) -> float:
    """Bytes that a message adds."""
    if not point.remote:
        return 0.0
    return STREAM_MESSAGE_BYTES if point.key_bytes else MESSAGE_BYTES
