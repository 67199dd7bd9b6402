"""What is told of a run: figures by their keys, promises, differences, the search, notes, text and page."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshload import text
from meshload.difference import block_weights, compare, table
from meshload.errors import LoadError, TargetError
from meshload.outcome import Outcome
from meshload.page import render_page
from meshload.results import document_of, read_outcome
from meshload.search import Search
from meshload.slo import check_all, parse_slo
from meshload.spec import RunSpec
from meshload.table import csv_of
from meshload.tally import Labels, Log, Tally, settle
from meshload.target import Status
from meshload.targets import TargetOptions, open_target
from meshload.verdict import is_generator_bound

MS = 1_000_000
SPEC = RunSpec("http://127.0.0.1:9/", stages=((10.0, 100.0, 100.0),), deadline_ms=(50.0, 50.0))


def outcome(
    *, seconds: int = 10, rate: int = 100, scale: float = 1.0, seed: int = 1, lag_ms: float = 0.01
) -> Outcome:
    """A run whose latency is exponential, mean 10 ms times `scale`; every 50th request is refused."""
    random, log, labels = np.random.default_rng(seed), Log(), Labels()
    ok, refused = labels.number(Status.OK, ""), labels.number(Status.REFUSED, "overloaded")
    for n in range(seconds * rate):
        at, wait = n * 1000 * MS // rate, int(random.exponential(10) * scale * MS)
        lag = int(lag_ms * MS)
        log.sent.extend((at, lag, 100, at + lag))
        label = refused if n % 50 == 49 else ok
        log.settled.extend((at, at + lag, at + lag + wait, label, 20, 50 * MS, 0, 2000))
    tally = Tally(float(seconds))
    settle(log, tally, labels, [""], 0)
    return Outcome(tally, [0.2], "a server", "128 bytes")


def figures(**changes: Any) -> dict[str, Any]:
    return document_of(SPEC, outcome(**changes))


def test_a_document_has_the_keys_that_were_promised() -> None:
    found = json.loads(json.dumps(figures()))
    for key in ("latency_ms", "service_ms"):
        assert {"p50", "p90", "p99", "p999", "max"} <= found[key].keys()
    assert {"sent", "received"} == found["bytes"].keys() and {"lag_ms_p99", "cpu"} <= found["generator"].keys()
    assert found["asked_rps"] == 100 and found["achieved_rps"] == pytest.approx(98, abs=0.5)
    assert found["hit"] == pytest.approx(0.98 * (1 - np.exp(-5)), abs=0.01)
    assert found["goodput_rps"] == pytest.approx(found["hit"] * 100)
    assert found["errors"] == {} and found["refused"] == {"overloaded": 20}
    assert found["requests"] == {"offered": 1000, "ok": 980, "refused": 20, "error": 0, "timeout": 0, "unsent": 0}
    assert found["latency_ms"]["p50"] == pytest.approx(10 * np.log(2), rel=0.15)
    assert found["server_ms"]["p99"] == pytest.approx(2, rel=1e-3)


def test_a_document_can_be_read_back_and_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(figures()))
    spec, back = read_outcome(tmp_path / "a.json")
    assert spec == SPEC and document_of(spec, back)["latency_ms"] == figures()["latency_ms"]
    for content in ("", "[]", "{}", '{"counts": {}, "spec": {}}'):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(LoadError, match=r"b\.json"):
            read_outcome(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("promises", "kept"),
    [
        ("p99<120ms", True), ("p99<0.12s", True), ("p99<1ms", False), ("p50>=1000us,max<10s", True),
        ("hit>0.9", True), ("hit>99.9%", False), ("refused<=2%", True), ("error<1%", True), ("service.p90<1", False),
        ("rate>97/s,goodput>90", True), ("kept>99.9", True), ("server.p50<3", True), ("latency.mean<12", True),
    ],
)  # fmt: skip
def test_promises(promises: str, kept: bool) -> None:
    verdicts = check_all(parse_slo(promises), figures())
    assert all(verdict.kept for verdict in verdicts) is kept
    assert len(verdicts) == promises.count(",") + 1
    assert ("BROKEN" in "".join(map(str, verdicts))) is not kept


@pytest.mark.parametrize(
    "wrong", ["", "p99", "p98<1", "p99<1%", "hit>1ms", "p99=1", "rate<1ms", "p99<1.2.3", "p99<1,"]
)
def test_a_promise_that_says_nothing_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(LoadError, match="--slo"):
        parse_slo(wrong)


def test_of_nothing_measured_no_promise_is_kept() -> None:
    empty = document_of(SPEC, Outcome(Tally(10.0)))
    assert [v.kept for v in check_all(parse_slo("p99<1s,hit>0,error<1"), empty)] == [False] * 3
    assert text.report(empty) and render_page(empty)


@given(st.floats(2, 1e5), st.floats(1, 1e5), st.sampled_from([0.02, 0.05, 0.5]))
def test_the_search_ends_around_the_limit(limit: float, first: float, precision: float) -> None:
    search = Search(first, precision=precision, tries=60)
    asked = []
    while not search.done:
        asked.append(search.rate_rps)
        search.tell(search.rate_rps <= limit)
    assert search.kept_rps is not None and search.broken_rps is not None
    assert search.kept_rps <= limit < search.broken_rps <= search.kept_rps * (1 + precision)
    assert len(set(asked)) == len(asked) == search.tried


def test_the_search_gives_up_at_its_bounds() -> None:
    below, above, short = Search(8, least_rps=1), Search(8, most_rps=100), Search(8, tries=3)
    while not below.done:
        below.tell(False)
    while not above.done:
        above.tell(True)
    while not short.done:
        short.tell(True)
    assert (below.kept_rps, below.broken_rps, below.tried) == (None, 1.0, 4)
    assert (above.kept_rps, above.broken_rps) == (64, None) and (short.kept_rps, short.tried) == (32, 3)


def test_a_slower_run_is_found_worse_and_a_faster_one_better() -> None:
    found = {d.name: d for d in compare(outcome(seed=1, rate=1000), outcome(seed=2, rate=1000, scale=1.5))}
    assert found["p50"].verdict == found["p90"].verdict == found["mean"].verdict == "worse"
    assert found["mean"].low is not None and found["mean"].high is not None
    assert (
        4 < found["mean"].low < found["mean"].change < found["mean"].high < 6 and found["answered"].verdict == "same"
    )
    back = {d.name: d for d in compare(outcome(seed=2, scale=1.5), outcome(seed=1))}
    assert back["mean"].verdict == "better" and "worse" not in table(tuple(back.values()))


def test_runs_of_one_kind_are_rarely_told_apart() -> None:
    told = sum(
        next(d for d in compare(outcome(seed=n), outcome(seed=n + 100)) if d.name == "mean").is_significant
        for n in range(20)
    )
    assert told <= 5, "5 % are expected, somewhat more for so few seconds"


def test_of_short_runs_nothing_is_stated() -> None:
    found = compare(outcome(seconds=5), outcome())
    assert {d.verdict for d in found} == {"unknown"} and "nothing is stated" in table(found)


def test_blocks_draw_as_many_seconds_as_there_are_and_all_of_them_alike() -> None:
    weights = block_weights(27, 4000, np.random.default_rng(1))
    assert (weights.sum(axis=1) == 27).all() and weights.mean(axis=0) == pytest.approx(np.ones(27), abs=0.1)
    assert ((weights > 0) & (np.roll(weights, 1, axis=1) > 0)).mean() > 0.45, "neighbours come together"


def test_the_generator_says_when_it_is_the_bottleneck() -> None:
    fine = figures()
    assert not is_generator_bound(fine) and not fine["notes"]
    late = figures(lag_ms=30)
    assert is_generator_bound(late) and "LATE" in late["notes"][0] and "other processes" in late["notes"][0]
    busy = document_of(SPEC, replace(outcome(), cpus=[0.4, 0.97]))
    assert is_generator_bound(busy) and "97%" in busy["notes"][0]
    slow = outcome()
    slow.tally.seconds[:, 1] = 90
    assert any("DID NOT KEEP THE RATE" in note for note in document_of(SPEC, slow)["notes"])
    ended = outcome(seconds=1)
    ended.tally.seconds[0, 1] -= 2
    assert not is_generator_bound(document_of(SPEC, ended)), "two of a hundred left just after the end"
    held = outcome()
    held.tally.held = 3
    assert (
        not is_generator_bound(document_of(SPEC, held)) and "waited for room" in document_of(SPEC, held)["notes"][0]
    )


def test_the_report_shows_what_matters() -> None:
    shown = text.report(figures())
    for words in ("asked 100.0/s", "97.", "answered within 50 ms", "1,000 = 980 ok + 20 refused", "overloaded 20",
                  "own lag p99", "p99.99", "by second, 10 s"):  # fmt: skip
        assert words in shown


def test_sparklines_begin_at_0_and_are_never_too_long() -> None:
    assert text.spark([0, 1, 2, None, 7]) == "▁▂▃ █"
    assert text.spark([]) == "" and text.spark([0, 0]) == "▁▁" and text.spark([None]) == " "
    assert len(text.spark([1.0] * 1000)) == 60 and text.spark([0.0] * 500 + [5.0] + [0.0] * 500).count("█") == 1


def test_the_progress_line_fits() -> None:
    tick = {"at_s": 3.0, "last_rps": 10_000, "p50_ms": 1.5, "p99_ms": None, "ok": 5, "failed": 7, "in_flight": 1000}
    assert len(text.progress(tick, length_s=30)) < 100 and "failed 7" in text.progress(tick, length_s=30)
    assert text.progress(tick | {"at_s": -2.0}, length_s=30) == "warming up, 2 s to go"


def test_the_page_stands_alone_and_is_escaped() -> None:
    page = render_page(document_of(replace(SPEC, url="http://<script>alert(1)</script>/"), outcome()))
    assert "<script" not in page and "http" not in page.replace("http://&lt;", "").replace("http-equiv", "")
    assert page.count("<svg") == 3 and "overloaded" in page and "default-src 'none'" in page


def test_csv_has_a_row_per_second() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_of(figures()))))
    assert [row["second"] for row in rows] == [str(n) for n in range(10)]
    assert sum(int(row["ok"]) for row in rows) == 980 and float(rows[0]["p99_ms"]) > float(rows[0]["p50_ms"])


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nats://", "names no host"), ("htp://h/", "did you mean http://"), ("http://h:99999999/", "is no URL"),
        ("nats://h/only-tenant", "tenant/model"), ("nats://h/a/b/c/d", "tenant/model"), ("nats://h/a.b/c", "tenant"),
        ("nats-raw://h/", "names no subject"), ("nats-raw://h/a b", "names no subject"),
        ("127.0.0.1:80", "no target"),
    ],
)  # fmt: skip
def test_bad_targets_are_named_with_what_to_do(url: str, complaint: str) -> None:
    with pytest.raises(TargetError) as caught:
        open_target(url, TargetOptions())
    assert complaint in str(caught.value) and caught.value.url == url and caught.value.advice


def test_a_spec_survives_the_way_to_another_process() -> None:
    spec = replace(SPEC, tenants=(("a", 3.0),), headers=(("x", "y"),), stages=((1.0, 2.0, 3.0), (2.0, 3.0, 3.0)))
    assert RunSpec.from_document(json.loads(json.dumps(spec.to_document()))) == spec


@pytest.mark.parametrize(
    "wrong",
    [{"processes": 0}, {"in_flight": 0}, {"processes": 4, "in_flight": 3}, {"stages": ()}, {"timeout_s": 0},
     {"closed": True, "edges": 5}],
)  # fmt: skip
def test_a_run_that_can_not_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(LoadError):
        replace(SPEC, **wrong)


def test_room_is_shared_out_over_the_processes() -> None:
    spec = replace(SPEC, processes=3, in_flight=10)
    assert [spec.limits(part).in_flight for part in range(3)] == [4, 3, 3]


def test_secrets_are_in_no_document_report_or_error() -> None:
    spec = replace(SPEC, url="nats-raw://me:s3cret@h:1/x", headers=(("Authorization", "s3cret"),))
    found = document_of(spec, outcome())
    assert "s3cret" not in json.dumps(found) + text.report(found) + render_page(found)
    assert "nats-raw://…@h:1/x" in text.report(found) and found["spec"]["headers"] == (("Authorization", "…"),)
    for url in ("nats-raw://tok3n@h:1/", "nats://tok3n:pw@h/one"):
        with pytest.raises(TargetError) as caught:
            open_target(url, TargetOptions())
        assert "tok3n" not in str(caught.value) and "pw" not in str(caught.value)
    assert TargetError("x", url="http://h/a@b").url == "http://h/a@b"
