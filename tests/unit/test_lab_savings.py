"""What a run's codecs saved against JPEG of the same fidelity: recounted from records and a plan's rows."""

from __future__ import annotations

import dataclasses

import pytest
from lab_run import frame, made_up_facts, made_up_fidelity, made_up_frames, made_up_plot
from plan_values import row

from splitmesh.frames.outcome import Outcome
from splitmesh.lab.records import check_lines
from splitmesh.lab.report import render_report
from splitmesh.lab.savings import Saving, savings
from splitmesh.lab.summary import summarise
from splitmesh.plan.bundle.schema import PointName, parse_point

ROWS = [
    row("", "jpeg", 95, 40_000.0, 0.98),
    row("", "jpeg", 50, 10_000.0, 0.90),
    row("early", "temporal", 100, 900.0, 0.96),
    row("early", "temporal", 80, 500.0, 0.90),
    row("early", "compact", 100, 5000.0, 0.995),
    row("early", "compact", 100, 5200.0, 0.90, "int8"),
    row("", "webp", 80, 9000.0, 0.90),
]


def sent(point: str, size: int, count: int = 1, outcome: Outcome = Outcome.SPLIT) -> list[object]:
    return [frame(seq, outcome, 50.0, point=point, uplink_bytes=size) for seq in range(count)]


def test_each_codec_is_held_against_jpeg_of_its_own_fidelity() -> None:
    records = [
        *sent("split/early/temporal-80", 600, 10),
        *sent("split/early/temporal-90", 700, 1),  # no level that was measured: between two
        *sent("split/early/compact-100", 5000, 2),  # better than any JPEG of the plan
        *sent("split/early+int8/compact-100", 5200, 2),
        *sent("frame/webp-80", 9100, 3, Outcome.FRAME),
        *sent("frame/jpeg-50", 10_000, 5, Outcome.FRAME),
        *sent("split/late/compact-100", 4000, 5),  # a cut that the plan does not have
        *sent("local", 0, 4, Outcome.LOCAL),
    ]
    temporal, compact, webp = savings(records, ROWS)  # type: ignore[arg-type]
    assert (temporal.place, temporal.codec, temporal.frames) == ("split", "temporal", 11)
    assert temporal.sent_bytes == 6700 and not temporal.at_least
    assert temporal.jpeg_bytes == pytest.approx(10 * 10_000 + 16_800, rel=0.03)
    assert compact == Saving("split", "compact", 4, 20_400, 2 * 40_000 + 2 * 10_000, at_least=True)
    assert webp == Saving("frame", "webp", 3, 27_300, 30_000, at_least=False)


def test_without_rows_of_jpeg_nothing_is_said() -> None:
    assert savings(sent("split/early/temporal-80", 600), ROWS[2:]) == ()  # type: ignore[arg-type]
    assert savings([], ROWS) == ()


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("split/n37-64x19x19/compact-104", PointName("split", "n37-64x19x19", "", "compact", 104)),
        ("split/n9-24x75x75-2t+int8/u8zstd-5", PointName("split", "n9-24x75x75-2t", "int8", "u8zstd", 5)),
        ("frame/jpeg-95", PointName("frame", "", "", "jpeg", 95)),
        ("local", None),
        ("local/int8", None),
        ("track", None),
        ("split/early/compact", None),
        ("frame/early/jpeg-95", None),
    ],
)
def test_names_of_points_are_read_back(name: str, parsed: PointName | None) -> None:
    assert parse_point(name) == parsed
    if parsed is not None:
        facts = row(parsed.cut, parsed.codec, parsed.level, 1.0, 0.9, parsed.variant)
        assert facts.point == name


def report_of(rows: list[object]) -> tuple[dict[str, object], str]:
    frames = [dataclasses.replace(one, point=one.point.replace("c2/u8zstd-5", "early/temporal-80"))
              for one in made_up_frames(60)]  # fmt: skip
    run = check_lines([one.to_json_line() for one in frames], expected=60)
    summary = summarise(run, made_up_facts(), made_up_fidelity(run), rows)  # type: ignore[arg-type]
    return summary, render_report(summary, made_up_plot(run))


def test_the_page_says_what_was_saved_in_a_sentence_and_bars() -> None:
    summary, page = report_of(ROWS)  # type: ignore[arg-type]
    (entry,) = summary["codec_saved"]  # type: ignore[misc]
    assert entry["codec"] == "temporal" and entry["frames"] > 10
    assert entry["sent_bytes"] == 9000 * entry["frames"] and entry["jpeg_bytes"] == 10_000 * entry["frames"]
    assert "What the codec saved" in page and "the codecs sent 10.0 % less" in page
    assert "split · temporal" in page and page.count('class="bar" style="width:330px') == 1


def test_the_page_of_a_run_that_sent_no_features_says_nothing_of_it() -> None:
    summary, page = report_of([])
    assert summary["codec_saved"] == [] and "What the codec saved" not in page
