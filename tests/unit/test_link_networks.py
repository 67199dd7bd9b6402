"""Links made up by chance: what repeats, what their long runs are like, and the same links as files and pictures."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
import xml.etree.ElementTree as ET
from collections import defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.cli.main import run
from splitmesh.errors import SettingsError
from splitmesh.provision.link.export import export_trace
from splitmesh.provision.link.formats import parse_trace
from splitmesh.provision.link.networks import NETWORKS
from splitmesh.provision.link.presets import load_link
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage

LONG_S = {"geo": 40_000.0}
"""Long enough for its slow states; of the others 6000 s are."""
BY_CHANCE = [*NETWORKS, "lte", "wifi", "3g"]
LAB = load_link("lab-default", duration_s=60)
DRIVING = load_link("lte-driving", duration_s=60)


def digest(trace: LinkTrace) -> str:
    return hashlib.sha256(repr(trace.steps).encode()).hexdigest()[:12]


@cache
def visits(name: str) -> list[tuple[str, float, list[Step]]]:
    """(state, length in s, its steps) of each visit of a long run that is whole; a state never follows itself."""
    length_s = LONG_S.get(name, 6000.0)
    made: list[tuple[str, float, list[Step]]] = []
    begun_s, last = 0.0, ""
    for state, step in NETWORKS[name].visits(length_s, f"{name}:1"):
        if state != last:
            if made:
                made[-1] = (last, step.start_s - begun_s, made[-1][2])
            made.append((state, 0.0, []))
            begun_s, last = step.start_s, state
        made[-1][2].append(step)
    return made[:-1]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_long_run_has_the_shares_the_lengths_and_the_rate_that_it_is_made_to_have(name: str) -> None:
    process = NETWORKS[name]
    lengths: dict[str, list[float]] = defaultdict(list)
    sent_bits = 0.0
    for state, length_s, steps in visits(name):
        lengths[state].append(length_s)
        ends = [step.start_s for step in steps[1:]] + [steps[0].start_s + length_s]
        sent_bits += sum(step.rate_bps * (end - step.start_s) for step, end in zip(steps, ends, strict=True))
    total_s = sum(map(sum, lengths.values()))
    shares = process.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert lengths.keys() == process.states.keys() == shares.keys()
    for state, expected in shares.items():
        # An exponential length has its mean for a deviation, and visits that bunch together widen that.
        doubt = 4 * 1.6 / math.sqrt(len(lengths[state])) * expected
        assert sum(lengths[state]) / total_s == pytest.approx(expected, abs=doubt), state
        mean_s = sum(lengths[state]) / len(lengths[state])
        assert mean_s == pytest.approx(process.states[state].mean_s, rel=4 / math.sqrt(len(lengths[state]))), state
        assert min(lengths[state]) >= process.states[state].least_s - 1e-3
    assert sent_bits / total_s == pytest.approx(process.mean_bps(), rel=0.08)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_has_its_mean_rate_and_its_delays(name: str) -> None:
    process = NETWORKS[name]
    seen: dict[str, list[Step]] = defaultdict(list)
    for state, step in process.visits(LONG_S.get(name, 6000.0), f"{name}:2"):
        seen[state].append(step)
    for state, steps in seen.items():
        expected = process.states[state]
        rates = [step.rate_bps for step in steps]
        assert sum(rates) / len(rates) == pytest.approx(expected.rate_bps, rel=0.2), state
        most_ms = expected.delay_ms + expected.visit_delay_ms
        assert all(expected.delay_ms <= step.delay_ms <= most_ms for step in steps)


@pytest.mark.parametrize("name", BY_CHANCE)
def test_a_number_names_another_run_and_the_same_one_each_time(name: str) -> None:
    plain, seventh, eighth = (load_link(name + seed, duration_s=30) for seed in ("", ":7", ":8"))
    assert plain == load_link(name, duration_s=30) and seventh == load_link(f"{name}:7", duration_s=30)
    assert len({plain.steps, seventh.steps, eighth.steps}) == 3
    assert (plain.name, seventh.name) == (name, f"{name}:7")
    assert seventh.steps == load_link(f"{name}:07", duration_s=30).steps
    assert (seventh.down_bps, seventh.loop, seventh.period_s) == (plain.down_bps, True, 30)
    longer = load_link(f"{name}:7", duration_s=45)
    assert longer.steps[: len(seventh.steps)] == seventh.steps


DIGESTS = {
    "lte-static": "8dda3d186a75",
    "lte-driving": "c7e90ed812e9",
    "lte-driving:7": "d2900586169d",
    "wifi-crowded": "8be6d4d8184b",
    "5g-midband": "1e1b4c248dd1",
    "5g-mmwave": "db3824d0136a",
    "geo": "17cf08200e2d",
    "leo": "86e5200ff486",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_runs_repeat_to_the_byte_on_every_machine(name: str) -> None:
    assert digest(load_link(name, duration_s=60)) == DIGESTS[name]


@pytest.mark.parametrize("name", ["lab-default:1", "satellite:2", "dead:0"])
def test_what_leaves_nothing_to_chance_has_no_other_runs(name: str) -> None:
    with pytest.raises(SettingsError, match="leaves nothing to chance"):
        load_link(name)


@pytest.mark.parametrize("name", ["lte:x", "lte:-1", "lte:", "wifey:3"])
def test_what_is_no_number_is_no_run(name: str) -> None:
    with pytest.raises(SettingsError, match="no link is called"):
        load_link(name)


@settings(max_examples=60)
@given(name=st.sampled_from(BY_CHANCE), seed=st.integers(0, 10**9), duration_s=st.floats(1e-4, 40))
def test_every_seed_and_length_makes_a_valid_link(name: str, seed: int, duration_s: float) -> None:
    trace = load_link(f"{name}:{seed}", duration_s=duration_s)
    assert trace.period_s >= duration_s and trace.finish_s(0.0, 1000) > 0


def test_a_mmwave_link_falls_to_a_tenth_within_100_ms_of_losing_sight_of_the_mast() -> None:
    made = visits("5g-mmwave")
    falls = [three for three in zip(made, made[1:], made[2:], strict=False) if three[1][0] == "decay"]
    assert len(falls) > 100
    assert all(before[0] == "sight" and shadow[0] == "shadow" and decay[1] < 0.1 for before, decay, shadow in falls)
    assert sum(shadow[2][0].rate_bps for *_, shadow in falls) < 0.1 * sum(b[2][-1].rate_bps for b, *_ in falls)


def test_driving_has_short_handovers_and_long_tunnels_without_any_rate() -> None:
    dead = [(state, length_s) for state, length_s, steps in visits("lte-driving") if not steps[0].rate_bps]
    handovers = [length_s for state, length_s in dead if state == "handover"]
    assert {state for state, _ in dead} == {"handover", "tunnel"}
    assert min(handovers) > 0.0499 and sum(each <= 0.3 for each in handovers) > 0.9 * len(handovers)
    assert all(length_s > 0.999 for state, length_s in dead if state == "tunnel")


def test_geo_takes_550_to_600_ms_there_and_back_and_leo_changes_its_path_every_15_s() -> None:
    assert all(550 <= 2 * step.delay_ms <= 600 for step in load_link("geo", duration_s=3000).steps)
    paths = [steps[0] for state, _, steps in visits("leo") if state == "path"]
    starts = {round(b.start_s - a.start_s, 3) for a, b in pairwise(paths)}
    assert starts <= {15.0, 14.9} and 15.0 in starts
    assert len({path.delay_ms for path in paths}) > 0.9 * len(paths)


@pytest.mark.parametrize("trace", [LAB, DRIVING, load_link("geo:3", duration_s=60)], ids=lambda trace: trace.name)
def test_an_exported_link_is_read_as_what_it_was(trace: LinkTrace) -> None:
    toml = parse_trace(export_trace(trace, "x.toml"), name="x.toml")
    assert (toml.steps, toml.period_s, toml.loop) == (trace.steps, trace.period_s, trace.loop)
    assert (toml.outages, toml.down_bps) == (trace.outages, trace.down_bps)
    table = parse_trace(export_trace(trace, "x.csv"), name="x.csv")
    sabre = parse_trace(export_trace(trace, "x.json"), name="x.json")
    assert sabre.period_s == pytest.approx(trace.period_s)
    for t in (0.01, 3.33, 12.77, 35.11, 59.2):
        assert table.rate_bps(t) == trace.rate_bps(t) and table.step_at(t)[2:] == trace.step_at(t)[2:]
        assert sabre.rate_bps(t) == pytest.approx(trace.rate_bps(t)) and sabre.delay_ms(t) == trace.delay_ms(t)
    packets = parse_trace(export_trace(trace, "x.up"), name="x.up")
    for t in (0.0, 10.0, 30.0, 50.0):
        assert packets.capacity_bytes(t, t + 9) == pytest.approx(trace.capacity_bytes(t, t + 9), rel=0.01, abs=4500)


def test_what_a_format_can_not_say_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"x\.txt names no format"):
        export_trace(DRIVING, "x.txt")
    with pytest.raises(SettingsError, match="takes not one packet"):
        export_trace(load_link("dead"), "x.up")


def test_a_link_is_shown_in_words_numbers_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, file = tmp_path / "link.svg", tmp_path / "link.toml"
    assert run(["link", "show", "lte-driving:7", "--plot", str(picture), "--export", str(file)]) == 0
    assert "lte-driving:7: 60 s" in capsys.readouterr().out
    paths = [each.attrib["d"] for each in ET.parse(picture).iter("{http://www.w3.org/2000/svg}path")]
    assert sum("L" in each for each in paths) == 2
    assert load_link(str(file)).steps == load_link("lte-driving:7").steps
    assert run(["link", "show", "lte-driving:7", "--json", "--duration-s", "5"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["link"] == "lte-driving:7" and len(shown["rows"]) == 20


def test_the_operations_page_has_the_rates_that_the_processes_have_and_its_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
    rates = {name: float(mbps) for name, mbps in re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \|", page, re.MULTILINE)}
    for name, process in NETWORKS.items():
        assert rates[name] == pytest.approx(process.mean_bps() / 1e6, rel=0.02), name
    commands = re.findall(r"^\$ splitmesh (link show .+)$", page, re.MULTILINE)
    assert len(commands) == 2 and [run(shlex.split(words)) for words in commands] == [0, 0]
    assert {path.name for path in tmp_path.iterdir()} == {"driving.svg", "blocked.toml"}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["wifey"], 2, "no link is called"),
        (["lte", "--export", "x.mp4"], 2, "names no format"),
        (["lte", "--export", "nowhere/x.up"], 1, "can't be written"),
        (["lte", "--plot", "nowhere/x.svg"], 1, "can't be written"),
    ],
)
def test_what_can_not_be_shown_is_said(
    arguments: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["link", "show", *arguments]) == status
    assert said in capsys.readouterr().err


def test_hardly_any_rate_is_none_and_a_transfer_over_it_never_ends() -> None:
    trace = LinkTrace("x", (Step(0, 1e-300), Step(5, 0.9)), 10)
    assert trace.finish_s(0, 1) == math.inf
    assert trace.capacity_bytes(0, 100) == 0 and trace.finish_s(3, 0) == math.inf


@settings(max_examples=100)
@given(
    rates=st.lists(st.sampled_from([0.0, 1.0, 800.0, 5e5]), min_size=1, max_size=4),
    start_s=st.floats(0, 50),
    size_bytes=st.integers(1, 10**9),
    dark_s=st.floats(0.1, 90),
)
def test_a_transfer_ends_when_the_link_has_had_room_for_it(
    rates: list[float], start_s: float, size_bytes: int, dark_s: float
) -> None:
    trace = LinkTrace("x", tuple(Step(i * 2.0, bps) for i, bps in enumerate(rates)), 2.0 * len(rates))
    late = trace.with_outages([Outage(start_s + 1, dark_s)])
    for link in (trace, late):
        end_s = link.finish_s(start_s, size_bytes)
        if not any(rates):
            assert end_s == math.inf
        elif end_s < 20_000:
            assert link.capacity_bytes(start_s, end_s) == pytest.approx(size_bytes, rel=1e-6)
    assert late.finish_s(start_s, size_bytes) >= trace.finish_s(start_s, size_bytes) - 1e-6
