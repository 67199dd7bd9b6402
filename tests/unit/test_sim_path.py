"""The link on virtual time against cases computed by hand: first in first out, delay, outages, cuts."""

from __future__ import annotations

import sys
from pathlib import Path as FilePath

import numpy as np
import pytest

from splitmesh.lab.link.shaper import Shaper
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage
from splitmesh.sim.path import Lane, Path

sys.path.append(str(FilePath(__file__).parent))
from sim_values import steady

MS = 1_000_000
S = 1_000_000_000


def lane(trace: LinkTrace, *, start_s: float = 0.0, seed: int = 0) -> Lane:
    return Lane(Path(trace, start_s=start_s, seed=seed))


def test_messages_queue_behind_each_other_and_take_the_delay_besides() -> None:
    path = lane(steady(8e6))  # 1000 bytes per ms
    assert path.send(1000, 0) == 11 * MS
    assert path.send(2000, 500_000) == 13 * MS  # begins at 1 ms
    assert path.queued_bytes(500_000) == 3000
    assert path.queued_bytes(2 * MS) == 2000
    assert path.queued_bytes(3 * MS) == 0
    assert path.send(500, 20 * MS) == 30 * MS + 500_000  # the link was idle: that capacity is lost


def test_a_message_crosses_at_the_rates_that_hold_while_it_does() -> None:
    trace = LinkTrace("steps", (Step(0.0, 8e6, 0.0), Step(0.01, 8e5, 0.0), Step(0.02, 0.0, 0.0)), 0.03)
    path = lane(trace)
    # 10 ms at 1000 bytes/ms, 10 ms at 100 bytes/ms, 10 ms of nothing, then anew: 500 bytes are left, 0.5 ms.
    assert path.send(11_500, 0) == 30 * MS + 500_000


def test_a_run_may_begin_within_the_trace() -> None:
    trace = LinkTrace("steps", (Step(0.0, 0.0, 5.0), Step(1.0, 8e6, 5.0)), 2.0)
    assert lane(trace, start_s=1.5).send(1000, 0) == 6 * MS
    assert lane(trace, start_s=0.5).send(1000, 0) == 506 * MS


def test_nothing_lands_in_an_outage_and_nothing_is_lost() -> None:
    path = lane(steady(8e6).with_outages([Outage(1.0, 5.0)]))
    assert path.send(1000, 995 * MS) == 6 * S  # crossed by 996 ms, would land at 1006 ms
    assert path.send(5000, 998 * MS) == 6 * S + 13 * MS  # 2000 bytes before it, 3000 after
    assert path.send(1000, 2 * S) == 6 * S + 14 * MS


def test_an_outage_that_cuts_loses_what_is_under_way_and_leaves_no_queue() -> None:
    path = lane(steady(8e6).with_outages([Outage(1.0, 5.0, cut=True)]))
    assert path.send(1000, 900 * MS) == 911 * MS
    assert path.send(1000, 995 * MS) is None
    assert path.send(5_000_000, 998 * MS) is None
    assert path.send(1000, 3 * S) is None
    assert path.send(1000, 6 * S) == 6 * S + 11 * MS


def test_a_dead_link_brings_nothing_and_its_queue_grows() -> None:
    path = lane(steady(0.0))
    assert path.send(1000, 0) is None and path.send(1000, S) is None
    assert path.queued_bytes(100 * S) == 2000


def test_jitter_comes_on_top_is_bounded_and_keeps_the_order() -> None:
    path = lane(steady(8e9, jitter_ms=4.0), seed=3)
    sent = [index * MS for index in range(200)]
    out = [path.send(1, at) for at in sent]
    assert all(at is not None for at in out)
    ordered = [at for at in out if at is not None]
    assert ordered == sorted(ordered)
    assert all(10 * MS <= landed - at <= 22 * MS + 1000 for at, landed in zip(sent, ordered, strict=True))
    assert len({landed - at for at, landed in zip(sent, ordered, strict=True)}) > 50
    again = lane(steady(8e9, jitter_ms=4.0), seed=3)
    assert [again.send(1, at) for at in sent] == out


@pytest.mark.parametrize(("bps", "sigma_ms"), [(2e6, 5.0), (8e6, 20.0), (40e6, 8.0)])
@pytest.mark.parametrize("size", [600, 6000, 30_000])
def test_jitter_is_spread_as_on_the_emulated_link(bps: float, sigma_ms: float, size: int) -> None:
    """Of many cells the last to come out counts."""
    trace = steady(bps, jitter_ms=sigma_ms)
    shaper, path = Shaper(trace, queue_bytes=size, seed=1), lane(trace, seed=1)
    shaper.begin(0)
    sent = [index * S for index in range(4000)]
    emulated = [shaper.take(size, now_ns=at)[-1].exit_ns - at for at in sent]
    out = [path.send(size, at) for at in sent]
    simulated = [landed - at for at, landed in zip(sent, out, strict=True) if landed is not None]
    levels = (10, 25, 50, 75, 90)
    apart_ms = (np.percentile(simulated, levels) - np.percentile(emulated, levels)) / MS
    assert max(abs(apart_ms)) < 0.09 * sigma_ms


@pytest.mark.parametrize("size", [1, 1500, 100_000])
def test_one_message_takes_what_the_trace_says(size: int) -> None:
    trace = steady(1e6)
    out_ns = lane(trace).send(size, 0)
    assert out_ns == round((trace.finish_s(0.0, size) + 0.01) * 1e9)
