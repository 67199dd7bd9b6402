"""What a link looks like in a few lines, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.cli.main import run
from splitmesh.provision.link.look import DEAD_BPS, look, sparkline
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage

STEPS = tuple(
    Step(float(at_s), bps, delay_ms) for at_s, bps, delay_ms in ((0, 8e6, 20.0), (2, 4e6, 50.0), (6, 1e6, 30.0))
)
LINK = LinkTrace("steps", STEPS, 10.0)


def test_rates_dead_seconds_and_round_trips_by_hand() -> None:
    """Two seconds at 8 Mbit/s, four at 4, four at 1."""
    seen = look(LINK)
    assert seen.seconds == 10 and seen.dead_s == seen.longest_dead_s == 0
    assert seen.rate_bps == pytest.approx({"p5": 1e6, "p25": 1e6, "p50": 4e6, "p75": 4e6, "p95": 8e6})
    assert seen.rtt_ms == {"least": 40.0, "most": 100.0}
    assert seen.bars == "██▅▅▅▅▂▂▂▂"


def test_outages_are_dead_seconds() -> None:
    seen = look(LINK.with_outages((Outage(1.0, 2.0), Outage(5.0, 1.0))))
    assert (seen.dead_s, seen.longest_dead_s) == (3, 2)
    assert seen.bars[1:3] == "··" and seen.bars[5] == "·" and seen.bars[4] != "·"


def test_hardly_any_rate_is_dead() -> None:
    steps = (Step(0.0, DEAD_BPS * 0.99), Step(1.0, DEAD_BPS * 1.01))
    assert look(LinkTrace("thin", steps, 2.0)).dead_s == 1


def test_a_long_trace_has_no_more_bars_than_columns() -> None:
    assert len(look(LinkTrace("long", STEPS, 3600.0), columns=40).bars) == 40
    assert len(look(LinkTrace("short", (Step(0.0, 1e6),), 0.25)).bars) == 1


@given(st.lists(st.floats(0, 1e9), max_size=80))
def test_a_higher_rate_never_has_a_lower_bar(rates: list[float]) -> None:
    bars = sparkline(rates)
    assert len(bars) == len(rates)
    heights = ["·▁▂▃▄▅▆▇█".index(bar) for bar in bars]
    ranked = sorted(zip(rates, heights, strict=True))
    assert [height for _, height in ranked] == sorted(heights)
    assert not rates or max(rates) == 0 or max(heights) == 8


def test_the_command_tells_it_in_text_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "walk.json"
    file.write_text(
        json.dumps(
            [{"duration_ms": 1000 * s, "bandwidth_kbps": kbps, "latency_ms": 25} for s, kbps in ((3, 5000), (3, 0))]
        )
    )
    assert run(["link", "show", str(file)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 5 and "███···" in told[1] and told[3] == "dead seconds  3 of 6, 3 in a row"
    assert run(["link", "show", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["look"]["dead_s"] == 3
    assert run(["link", "show", "wifey"]) == 2
