"""Link traces as text: each format's figures, recognition, and errors that say where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from splitmesh.errors import SettingsError
from splitmesh.provision.link.formats import parse_trace
from splitmesh.provision.link.presets import PRESETS, load_link
from splitmesh.settings.units import Outage

TRACES = Path(__file__).parents[3] / "shared" / "traces"


def test_mahimahi_gives_1500_bytes_per_line_and_loops() -> None:
    trace = parse_trace("3\n3\n7\n10\n", name="x.up")
    assert trace.period_s == pytest.approx(0.010) and trace.loop
    assert trace.capacity_bytes(0, 0.010) == pytest.approx(4 * 1500)
    assert trace.capacity_bytes(0.0029, 0.0041) == pytest.approx(2 * 1500)
    assert trace.rate_bps(0.0035) == pytest.approx(2 * 1500 * 8 * 1000)
    assert trace.rate_bps(0.0055) == 0
    assert trace.capacity_bytes(0.010, 0.011) == pytest.approx(1500), "the last opportunity opens the next lap"
    assert trace.capacity_bytes(0, 1.0) == pytest.approx(100 * 4 * 1500)


def test_sabre_durations_rates_and_half_latencies() -> None:
    rows = [(500, 8000, 20), (1500, 800, 90)]
    keys = ("duration_ms", "bandwidth_kbps", "latency_ms")
    trace = parse_trace(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]), name="log.json")
    assert (trace.rate_bps(0.2), trace.rate_bps(1.0), trace.rate_bps(2.2)) == (8e6, 8e5, 8e6)
    assert (trace.delay_ms(0.2), trace.delay_ms(1.9)) == (10, 45)
    assert trace.period_s == 2.0


def test_pensieve_holds_each_rate_until_the_next_line() -> None:
    trace = parse_trace("5.0 4.0\n6.0\t2.0\n9.0 1.0\n", name="bus")
    assert [trace.rate_bps(t) for t in (0.5, 1.5, 3.9, 4.5)] == [4e6, 2e6, 2e6, 1e6]
    assert trace.period_s == pytest.approx(6.0), "the last line gets the mean length"
    assert trace.rate_bps(6.5) == 4e6


def test_csv_and_toml_say_the_same() -> None:
    table = parse_trace("start_s,rate_mbps,delay_ms,jitter_ms\n0,10,20,1\n5,0.5,80,4\n", name="a.csv")
    toml = """
        length_s = 10
        [[step]]
        start_s = 0
        rate = "10Mbit"
        delay_ms = 20
        jitter_ms = 1
        [[step]]
        start_s = 5
        rate_kbps = 500
        delay_ms = 80
        jitter_ms = 4
        [[outage]]
        start_s = 7
        length_s = 1
        cut = true
    """
    schedule = parse_trace(toml, name="a.toml")
    assert table.steps == schedule.steps and table.period_s == schedule.period_s == 10
    assert not table.loop and table.rate_bps(1000) == 5e5
    assert schedule.outages == (Outage(7, 1, True),)
    assert schedule.rate_bps(7.5) == 0 and schedule.cut_at(7.5) and not schedule.cut_at(8)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.up", "", "is empty"),
        ("a.up", "1\ntwo\n", "line 2: 'two' is not a whole number"),
        ("a.up", "5\n3\n", "line 2: 3 ms comes after 5 ms"),
        ("a.up", "0\n0\n", "longer than 0 ms"),
        ("a", "0 1\n0 2\n", "line 2: 0 s does not come after"),
        ("a", "0 1\n1 x\n", "line 2: '1 x' is not two numbers"),
        ("a", "0 1\n", "at least two lines"),
        ("a", "0 -1\n1 2\n", "rate, delay and jitter at 0 s"),
        ("a", "1 2 3\n", "in no format known"),
        ("a.json", "[{", "not valid JSON"),
        ("a.json", "[]", "JSON list"),
        ("a.json", '[{"duration_ms": 5, "bandwidth_kbps": "fast", "latency_ms": 1}]', "entry 1: bandwidth_kbps"),
        ("a.json", '[{"duration_ms": 5}]', "entry 1: bandwidth_kbps must be a number"),
        ("a.csv", "start_s,rate_mbps,colour\n0,1,red\n", "data line 1 has unknown columns: colour"),
        ("a.csv", "start_s,delay_ms\n0,1\n", "data line 1 needs exactly one of rate"),
        ("a.csv", "start_s,rate_mbps\n1,1\n", "must start at 0 s"),
        ("a.csv", "start_s,rate_mbps\n0,1\n0,2\n", "must start at 0 s and ascend"),
        ("a.csv", "start_s,rate_mbps\n", "no steps"),
        ("a.toml", "[[step]]\nstart_s = 0\nrate = 'quick'\n", "step 1: rate must be a rate"),
        ("a.toml", "speed = 3\n", "unknown keys: speed"),
        ("a.toml", "x = [", "not valid TOML"),
        ("a.toml", "loop = 1\n[[step]]\nstart_s = 0\nrate_bps = 1\n", "loop must be true or false"),
        ("a.toml", "[[step]]\nstart_s = 0\nrate_bps = 1\n[[outage]]\nstart_s = 1\nlength_s = 0\n", "outage needs"),
    ],
)
def test_errors_say_where_and_what(name: str, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_trace(text, name=name)
    assert caught.value.key == "link" and name in str(caught.value) and complaint in str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("duration_s", [5.0, 60.0])
def test_presets_are_the_same_every_time_and_span_the_run(name: str, duration_s: float) -> None:
    trace = load_link(name, duration_s=duration_s)
    assert trace == load_link(name, duration_s=duration_s)
    assert trace.period_s == pytest.approx(duration_s)
    assert name in trace.describe()
    assert len(trace.to_rows(duration_s=duration_s, step_s=0.5)) == 2 * duration_s


@pytest.mark.parametrize("duration_s", [20.0, 60.0, 90.0])
def test_lab_default_is_good_fades_dies_limps_and_is_good_again(duration_s: float) -> None:
    trace, minute = load_link("lab", duration_s=duration_s), duration_s / 60
    good, fading, faint = (trace.mean_bps(a * minute, b * minute) for a, b in ((0, 15), (21, 24), (30, 33)))
    dead, limping, again = (trace.mean_bps(a * minute, b * minute) for a, b in ((33, 39), (39, 45), (45, 60)))
    assert good == pytest.approx(10e6, rel=0.05) and again == pytest.approx(10e6, rel=0.05)
    assert 1e6 < fading < 5e6 and faint == pytest.approx(0.6e6, rel=0.1)
    assert dead == 0 and trace.downlink().mean_bps(33 * minute, 39 * minute) == 0
    assert faint < limping < good
    assert trace.delay_ms(5 * minute) < trace.delay_ms(25 * minute) < trace.delay_ms(32 * minute)


def test_dead_is_dead_both_ways() -> None:
    trace = load_link("dead", outages=[Outage(3, 4)])
    assert trace.capacity_bytes(0, 100) == 0 and trace.downlink(5e6).capacity_bytes(0, 100) == 0


def test_outages_are_laid_over_any_link() -> None:
    trace = load_link("adsl", outages=[Outage(2, 3), Outage(4, 2, True)])
    assert [trace.rate_bps(t) > 0 for t in (1.9, 2, 4.9, 5.9, 6)] == [True, False, False, False, True]
    assert not trace.cut_at(3) and trace.cut_at(4.5)
    assert trace.downlink().rate_bps(2.5) == 0


def test_unknown_links_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no link is called 'wify'.*lab-default"):
        load_link("wify")
    (tmp_path / "noise.up").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SettingsError, match="is not text"):
        load_link(str(tmp_path / "noise.up"))
    with pytest.raises(SettingsError, match="can't be read"):
        load_link(str(tmp_path))


@pytest.mark.skipif(not TRACES.is_dir(), reason="needs ../shared/traces")
def test_every_public_trace_is_read() -> None:
    paths = sorted(path for path in TRACES.rglob("*") if path.is_file())
    assert len(paths) > 20
    for path in paths:
        trace = load_link(str(path))
        assert 50 < trace.period_s < 2000, path
        assert 3e5 < trace.mean_bps(0, trace.period_s) < 60e6, path
    lines = (TRACES / "mahimahi/Verizon-LTE-short.up").read_text().split()
    trace = load_link(str(TRACES / "mahimahi/Verizon-LTE-short.up"))
    assert trace.capacity_bytes(0, trace.period_s) == pytest.approx(len(lines) * 1500)
