"""Replays: what is asked again comes when it should, with what it had, from where it must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_requests import MIXED, PICTURE, SHA, S, full, slim, written

from meshload.cli.replay import replay, replay_spec
from meshload.errors import LoadError
from meshload.payloads.envelope import stamped_next
from meshload.payloads.stand_ins import pictures, random_bytes
from meshload.recording.replay import Replay, arrivals_of
from meshload.spec import RunSpec
from meshload.targets.homes import Homes
from splitmesh.codec.picture import decode_picture
from splitmesh.errors import ModelError, WireError
from splitmesh.models.registry import resolve_model
from splitmesh.wire.headers import MAX_BUDGET_US, trace_text
from splitmesh.wire.requests import MAX_SEQ, StreamRequest, decode_request


def arrivals(path: Path, **changes: Any) -> list[tuple[float, str, float]]:
    """(second, edge, deadline in s)."""
    made = arrivals_of(replace(Replay(str(path)), **changes), until_ns=10 * S, model="")
    return [(a.at_ns / S, a.edge, a.deadline_ns / S) for a in made]


@pytest.mark.parametrize("speed", [1.0, 2.0, 0.5])
def test_the_same_arrivals_come_k_times_as_fast_with_their_budgets(tmp_path: Path, speed: float) -> None:
    path = written(tmp_path / "a.rec", *MIXED)
    assert arrivals(path, speed=speed) == [
        (0.5 / speed, "cam-1", 0.09),
        (1.0 / speed, "cam-2", 0.2),
        (1.5 / speed, "cam-2", 0.08),
        (3.0 / speed, "cam-1", 0.09),
    ]
    assert {deadline for *_, deadline in arrivals(path, deadline_ns=S)} == {1.0}
    assert [at for at, *_ in arrivals(path, model="m")] == [0.5, 1.0, 1.5]
    spent = written(tmp_path / "spent.rec", (1.0, full(1, budget_us=0)))
    assert arrivals(spent) == [(1.0, "cam-1", 1e-9)], "no budget left is not the same as none"


def test_payloads_say_where_they_belong(tmp_path: Path) -> None:
    path = written(tmp_path / "a.rec", *MIXED)
    picture, key, delta, _ = (a.payload for a in arrivals_of(Replay(str(path)), until_ns=10 * S, model=""))
    assert picture and key and delta
    assert (picture.data, picture.cut, picture.model_sha256, picture.stream) == (PICTURE, "", "", 0)
    assert (key.data, key.cut, key.model_sha256, key.stream, key.follows) == (b"key", "n37", SHA, 7, False)
    assert (delta.data, delta.stream, delta.follows) == (b"delta", 7, True)
    bodies = [a.payload for a in arrivals_of(Replay(str(path), payloads="bodies"), until_ns=10 * S, model="")]
    assert bodies[0] and bodies[0].body.startswith(b"\xff\xd8") and bodies[0].content_type == "image/jpeg"
    assert bodies[1] and bodies[1].body == b"key"


def test_all_that_one_edge_asked_comes_from_one_process(tmp_path: Path) -> None:
    path = written(tmp_path / "a.rec", *((n / 100, full(n, edge=f"cam-{n % 7}")) for n in range(70)))
    parts = [
        [(a.at_ns, a.edge) for a in arrivals_of(Replay(str(path)), until_ns=10 * S, model="", every=(part, 3))]
        for part in range(3)
    ]
    edges = [{edge for _, edge in part} for part in parts]
    assert sum(map(len, edges)) == 7 == len(set.union(*edges)) and sum(map(len, parts)) == 70
    assert all(part == sorted(part) for part in parts)


def spec(file: Path, *words: str, url: str = "nats://127.0.0.1/acme/m") -> RunSpec:
    values = replay.make_context("replay", [str(file), *words, url]).params
    return replay_spec(values["file"], values["target"], values)


def test_a_replay_is_as_long_as_the_recording_by_its_speed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.rec", *MIXED)
    found = spec(path, "--speed", "2")
    assert found.measured_s == pytest.approx(2) and found.asked_rps == pytest.approx(3 / 2)
    assert found.deadline_ms == (80, 200) and found.replay and found.replay.streams
    assert [a.at_ns / S for a in found.schedule(0)] == [0.25, 0.5, 0.75]
    for left_out in ("1 for other models", "1 are left out: they build on frames from before"):
        assert left_out in found.replay.note
    part = spec(path, "-d", "1.2s", "--warmup", "1s", "--deadline", "1s")
    assert [a.at_ns / S for a in part.schedule(0)] == [0.5, 1.0] and part.measured_s == pytest.approx(0.2)
    assert part.deadline_ms == (1000, 1000)
    assert RunSpec.from_document(found.to_document()) == found


@pytest.mark.parametrize(
    ("words", "url", "says"),
    [
        (["--speed", "0"], "nats://h/t/m", "--speed 0"), (["--speed", "nan"], "nats://h/t/m", "--speed"),
        ([], "nats://h/t/m/n37", "cuts of their own"), ([], "nats://h/t/third", "recorded for m, other"),
        (["-d", "1s", "--warmup", "1s"], "nats://h/t/m", "nothing is left to measure"),
    ],
)  # fmt: skip
def test_what_can_not_be_replayed_is_said(tmp_path: Path, words: list[str], url: str, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        spec(written(tmp_path / "a.rec", *MIXED), *words, url=url)


def test_a_recording_of_nothing_that_can_be_asked_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no request") as caught:
        spec(written(tmp_path / "a.rec", (1.0, slim(1, stream=3))))
    assert "before the recording" in caught.value.advice


def test_all_that_takes_time_is_done_before_the_first_arrival_is_asked_for(tmp_path: Path) -> None:
    """A model that is not there is noticed when the schedule is made, and not when it begins."""
    path = written(tmp_path / "a.rec", (1.0, full(1)), payloads=False)
    with pytest.raises(ModelError):
        spec(path, url="nats://h/t/no-such-model").schedule(0)


def test_without_payloads_pictures_are_made_up_for_the_mesh_and_bytes_for_others(tmp_path: Path) -> None:
    sizes = [20_000, 6_000]
    path = written(tmp_path / "a.rec", *((n, full(n, payload=bytes(s))) for n, s in enumerate(sizes)), payloads=False)
    model = resolve_model(None)
    mesh, other = spec(path, url=f"nats://h/t/{model.manifest.name}"), spec(path, url="http://h/")
    made = [a.payload for a in mesh.schedule(0)]
    expect = (model.manifest.height, model.manifest.width)
    assert [len(payload.data) for payload in made if payload] == sizes
    assert all(decode_picture(payload.data, expect=expect).shape == (*expect, 3) for payload in made if payload)
    assert [len(a.payload.body) for a in other.schedule(0) if a.payload] == sizes
    given_ones = spec(path, "--payload", "synthetic:9", url="http://h/")
    assert [a.payload for a in given_ones.schedule(0)] == [None, None] and given_ones.payload == "synthetic:9"
    cut = written(tmp_path / "b.rec", (1.0, full(1, cut="n37")), payloads=False)
    with pytest.raises(LoadError, match="n37 can't be made up"):
        spec(cut)


def test_made_up_pictures_have_their_size_to_the_byte_or_the_least_there_is() -> None:
    manifest = resolve_model(None).manifest
    of_size = pictures("")
    least = len(of_size(1).data)
    for size in (least, least + 1, 9_000, 9_001, 40_000, 500_000):
        made = of_size(size)
        assert len(made.data) == size
        assert decode_picture(made.data, expect=(manifest.height, manifest.width)).std() > 5
    assert len(random_bytes(1000)(77).data) == 77


@given(
    stream=st.integers(1, 2**32 - 1),
    seq=st.integers(0, MAX_SEQ),
    payload=st.binary(min_size=1, max_size=400),
    budget_us=st.integers(0, MAX_BUDGET_US),
    trace=st.binary(min_size=25, max_size=25) | st.just(b""),
)
def test_a_stamped_frame_of_a_stream_is_the_one_that_an_edge_would_send(
    stream: int, seq: int, payload: bytes, budget_us: int, trace: bytes
) -> None:
    raw = stamped_next(payload, stream=stream, seq=seq, budget_us=budget_us, trace=trace)
    sent = StreamRequest(stream, seq, payload, budget_us, trace_text(trace) if trace else None)
    assert decode_request(raw, {}) == sent


def test_a_stream_keeps_its_worker_and_new_ones_go_to_all_in_turn() -> None:
    homes = Homes()
    with pytest.raises(WireError, match="no worker"):
        homes.open(1, 11)
    for worker in ("a", "b", "a"):
        homes.add_worker(worker)
    assert [homes.open(number, number + 10) for number in (1, 2, 3, 1)] == [
        ("a", 11), ("b", 12), ("a", 13), ("a", 11),
    ]  # fmt: skip
    homes.lose(1)
    assert homes.find(1) is None and homes.find(3) is None and homes.find(2) == ("b", 12)
    assert {homes.open(number, 5).worker for number in (1, 4, 6)} == {"b"}
