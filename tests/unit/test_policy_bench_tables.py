"""The policy benchmark's tables, rows of its picture, and which links a part of it takes."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from bench.policy import STEADY, steady_and_some, thinned
from bench.policy_tables import harm, leaderboard, recovery
from rich.console import Console

from splitmesh.cli.bench.policy_links import Links, links_named, links_of_folders
from splitmesh.cli.bench.policy_options import factors
from splitmesh.cli.bench.policy_plot import draw_policies, rows_of
from splitmesh.cli.bench.policy_recovery_plot import draw_recovery
from splitmesh.cli.bench.policy_tables import show_policies, show_recovery
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.sim.compare import STATIC_BEST, PolicyComparison, Runs, Wanted
from splitmesh.sim.document import document
from splitmesh.sim.recovery import recover
from splitmesh.sim.recovery_document import recovery_document
from splitmesh.sim.result import Figures, Latency
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.shift import Shift

sys.path.append(str(Path(__file__).parent))
from sim_values import PLAN, steady

POLICIES = ("adaptive", "local", STATIC_BEST, "oracle-horizon")


def compared(links: int) -> dict[str, Any]:
    """Links of two sets: in "bus" the adaptive policy is clearly ahead of local, in "tram" clearly behind."""
    sets = {f"{'bus' if i % 2 else 'tram'}/{i}": ("bus" if i % 2 else "tram") for i in range(links)}
    wanted = Wanted(
        lambda _: PLAN,
        {name: LinkTrace(name, (Step(0.0, 1e6),), 60.0) for name in sets},
        POLICIES,
        1,
        Scenario(),
        (4.0,),
        sets,
    )
    runs = {}
    for number, (name, group) in enumerate(sets.items()):
        local = (0.5 if group == "bus" else 0.9) + 0.001 * number
        utilities = (0.8, local, 0.85, 1.0)
        runs[name] = {policy: made(policy, each) for policy, each in zip(POLICIES, utilities, strict=True)}
    return document(PolicyComparison(wanted, runs))


def made(policy: str, utility: float) -> Runs:
    latency = Latency(50.0, 50.0, 100.0, 120.0 if policy == "adaptive" else 100.0)
    figures = Figures(utility, 1.0, utility, 1.0, utility / 2, latency, 100.0, 0.0, {}, {})
    return Runs(policy, "frame/jpeg-50" if policy == STATIC_BEST else "", (figures,), 1.0, 1500)


def test_the_leaderboard_marks_what_is_beyond_chance_in_each_set() -> None:
    head, rows = leaderboard(compared(8))
    assert head == ("policy", "tram (4), 4×", "bus (4), 4×")
    by_policy = {row[0]: row[1:] for row in rows}
    assert by_policy["**adaptive**"] == ("**0.800**", "**0.800**")
    assert by_policy["`local`"] == ("0.903 (-0.103*)", "0.504 (+0.296*)")
    assert rows[0][0] == "`oracle-horizon`"


def test_a_set_of_one_link_has_no_marks() -> None:
    _, rows = leaderboard(compared(2))
    assert not any("*)" in cell for row in rows for cell in row)


def test_harm_is_told_of_the_first_policy() -> None:
    _, rows = harm(compared(8))
    assert rows[0] == ("tram (4), 4×", "0.800 (0.800 … 0.800)", "0.800", "0.941", "1.20", "0.400")


def test_rows_of_the_picture_are_links_or_sets_where_there_are_many() -> None:
    few, many = compared(16), compared(18)
    assert [row.label for row in rows_of(few)] == list(few["traces"])
    assert [row.label for row in rows_of(many)] == ["tram (9), edge 4×", "bus (9), edge 4×"]
    half = many["leaderboard"][1]["policies"]["local"]["first_ahead_ci95"]
    assert rows_of(many)[1].policies["local"][1] == pytest.approx((half[1] - half[0]) / 2)
    axes = draw_policies(many).axes[0]
    assert len(axes.get_yticklabels()) == 2 and axes.get_xlim() == pytest.approx((0.453, 1.01), abs=0.02)


def test_the_terminal_shows_every_set_and_what_is_beyond_chance() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    show_policies(console, compared(8))
    shown = console.export_text()
    assert "tram (4) @4x" in shown and "bus (4) @4x" in shown and "adaptive ahead by" in shown
    assert "+0.2960*" in shown and "static-best over bus/1: frame/jpeg-50" in shown
    assert re.findall(r"\w…", shown) == []  # nothing was cut off


def test_recoveries_are_shown_with_what_never_came_back() -> None:
    scenario = Scenario(duration_s=15.0, fps=10.0, deadline_ms=200.0, prepare_ms=2.0, edge_slowdown=4.0)
    wanted = Wanted(lambda _: PLAN, {"fast": steady(2e6)}, ("local",), 1, scenario)
    found = recovery_document(recover(wanted, shift=Shift(start_s=2.0, length_s=2.0)))
    _, rows = recovery(found)
    assert [row[0] for row in rows] == ["edge", "link", "worker"] and rows[1][2:6] == ("0", "0", "0", "100%")
    figure = draw_recovery(found)
    assert [axes.get_title(loc="left").partition(":")[0] for axes in figure.axes] == [
        "edge 4× slower still", "uplink at 3%", "workers 8× slower",
    ]  # fmt: skip
    found["kinds"]["edge"]["policies"]["local"] |= {"frames_p50": None, "frames_worst": None, "never": 1}
    assert recovery(found)[1][0][2:4] == ("never", "never in 1 of 1")
    assert "did not come back in 1 of 1 runs" in draw_recovery(found).axes[0].get_title(loc="left")
    console = Console(width=110, record=True, file=io.StringIO())
    show_recovery(console, found)
    assert "1 of 1" in console.export_text()


def test_a_set_is_the_folder_that_a_trace_lies_in(tmp_path: Path) -> None:
    for name in ("4g/bus", "4g/tram", "3g/bus"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(f"{at} 2\n" for at in range(8)))
    found = links_of_folders([tmp_path])
    assert found.sets == {"3g/bus": "3g", "4g/bus": "4g", "4g/tram": "4g"}
    assert links_of_folders([tmp_path / "4g"]).sets == {"bus": "4g", "tram": "4g"}
    named = links_named(["lan", str(tmp_path / "3g/bus")], duration_s=60.0)
    assert named.sets == {"lan": "presets", str(tmp_path / "3g/bus"): "3g"}
    assert found.with_more(named).traces.keys() == found.traces.keys() | named.traces.keys()


def test_results_keep_five_places_and_no_counts() -> None:
    row = {"utility": 0.1234567, "decisions": {"local": 3}, "ci95": [0.1234567, None], "point": "a", "runs": 3}
    kept = {"utility": 0.12346, "ci95": [0.12346, None], "point": "a", "runs": 3}
    assert thinned({"traces": {"x": row}, "shift": (1.0,)}) == {"traces": {"x": kept}, "shift": [1.0]}


def test_shifts_are_put_into_steady_links_and_two_of_each_set() -> None:
    traces = {f"{group}/{i}": LinkTrace("made", (Step(0.0, 1e6),), 60.0) for group in "ab" for i in range(5)}
    chosen = steady_and_some(Links(traces, {name: name[0] for name in traces}))
    assert list(chosen.traces) == [*STEADY.split(","), "a/0", "a/2", "b/0", "b/2"]
    assert list(steady_and_some(Links({}, {})).traces) == STEADY.split(",")


@pytest.mark.parametrize(
    ("text", "found"),
    [("4", (4.0,)), ("4, 10,4", (4.0, 10.0)), ("0.5", (0.5,)), ("0", None), ("nan", None), ("", None)],
)
def test_slowdowns_are_numbers_each_once(text: str, found: tuple[float, ...] | None) -> None:
    context, option = click.Context(click.Command("x")), click.Option(["--edge-slowdown"])
    if found is None:
        with pytest.raises(click.BadParameter, match="must be numbers"):
            factors(context, option, text)
    else:
        assert factors(context, option, text) == found
