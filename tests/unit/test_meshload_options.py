"""What options mean: one run for each line, refusals that name the option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshload.cli.options import spec_of
from meshload.cli.run import run, status_of
from meshload.errors import LoadError
from meshload.spec import RunSpec

URL = "http://127.0.0.1:9/"


def spec(*words: str, url: str = URL) -> RunSpec:
    values = run.make_context("meshload", [*words, url]).params
    return spec_of(values["target"], values)


def test_without_options_a_hundred_a_second_for_half_a_minute() -> None:
    found = spec()
    assert (found.asked_rps, found.measured_s, found.arrivals, found.in_flight) == (100, 30, "poisson", 1024)
    assert not found.closed and found.payload == "synthetic" and found.deadline_ns == 0


def test_a_closed_loop_asks_for_no_rate_and_has_ten_callers() -> None:
    found = spec("--closed", "-d", "2s")
    assert found.closed and found.asked_rps is None and found.in_flight == 10 and found.measured_s == 2


def test_stages_take_the_place_of_rate_and_duration() -> None:
    found = spec("--stages", "10s@100,ramp:10s@300", "--warmup", "5s")
    assert found.measured_s == 20 and found.asked_rps == 150 and found.curve().length_s == 25
    assert [a.at_ns for a in found.schedule(0)][:1] and found.curve().rate_rps(1) == 100


def test_a_trace_keeps_its_rate_unless_another_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "times"
    file.write_text("1.0\n1.5\n2.0\n2.5\n")
    kept, faster = spec("--arrivals", f"trace:{file}"), spec("--arrivals", f"trace:{file}", "-R", "20", "-d", "2s")
    assert kept.asked_rps is None and kept.measured_s == 2 and len(list(kept.schedule(0))) == 4
    assert faster.asked_rps == 20 and len(list(faster.schedule(0))) == 40


def test_edges_have_their_own_rate_phase_and_deadline_over_all_processes() -> None:
    found = spec("--edges", "50", "--fps", "1-3", "--deadline", "100-200ms", "-t", "2", "-d", "4s")
    assert found.asked_rps == 100 and found.deadline_ms == (100, 200)
    parts = [list(found.schedule(part)) for part in range(2)]
    assert {a.edge for a in parts[0]} & {a.edge for a in parts[1]} == set()
    assert len({a.edge for part in parts for a in part}) == 50
    deadlines = {a.deadline_ns for part in parts for a in part}
    assert len(deadlines) > 40 and min(deadlines) >= 1e8 and max(deadlines) <= 2e8


def test_the_mesh_gets_pictures_for_the_model_that_is_asked() -> None:
    found = spec(url="nats://127.0.0.1/default/yunet-face")
    assert found.payload == "synthetic::picture" and found.model == "yunet-face"
    assert spec("--payload", "synthetic:1k", "--model", "m", url="nats://127.0.0.1/a/b").model == "m"
    assert spec(url="nats://127.0.0.1/a/b/whole").payload == "synthetic::picture"
    with pytest.raises(LoadError, match="cut n37 takes its tensors") as caught:
        spec(url="nats://127.0.0.1/a/b/n37")
    assert "features:default:split/n37/" in caught.value.advice
    assert spec("--payload", "file:*.bin", url="nats://127.0.0.1/a/b/n37").payload == "file:*.bin"


@pytest.mark.parametrize(
    ("text", "ms"), [("150ms", (150, 150)), ("0.1s-0.2s", (100, 200)), ("100-200ms", (100, 200))]
)
def test_deadlines(text: str, ms: tuple[float, float]) -> None:
    assert spec("--deadline", text).deadline_ms == pytest.approx(ms)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--deadline", "200-100ms"], "--deadline"), (["--deadline", "x"], "--deadline"), (["-c", "0"], "-c 0"),
        (["-R", "0"], "-R 0"), (["-R", "nan"], "-R"), (["-H", "x"], "-H 'x'"), (["--trace", "2"], "--trace"),
        (["--warmup", "-1s"], "--warmup"), (["-t", "0"], "-t 0"), (["--edges", "5", "--closed"], "--edges"),
        (["--arrivals", "uniform"], "--arrivals"), (["--fps", "a-b"], "--fps"), (["--timeout", "0s"], "--timeout"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(words: list[str], named: str) -> None:
    with pytest.raises(LoadError, match=named):
        spec(*words)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 0), ({"slo": [{"kept": False}]}, 3), ({"requests": {"ok": 0}}, 4), ({"counts": {"lost": True}}, 4),
        ({"interrupted": True, "requests": {"ok": 0}}, 130),
        ({"died": ["PROCESS 1 OF 2 DIED"], "requests": {"ok": 0}, "slo": [{"kept": False}]}, 5),
        ({"died": ["PROCESS 1 OF 2 DIED"], "interrupted": True}, 130),
    ],
)  # fmt: skip
def test_the_exit_status(changes: dict[str, Any], status: int) -> None:
    fine = {
        "interrupted": False,
        "died": [],
        "requests": {"ok": 5},
        "counts": {"lost": False},
        "slo": [{"kept": True}],
    }
    assert status_of(fine | changes) == status
