from __future__ import annotations

import dataclasses
import re
from io import StringIO

import pytest
from lab_run import (
    CAPACITY,
    OUTAGE,
    frame,
    made_up_facts,
    made_up_fidelity,
    made_up_frames,
    made_up_plot,
    made_up_run,
)
from rich.console import Console

from splitmesh.frames.outcome import Outcome
from splitmesh.lab.display import summary_panel
from splitmesh.lab.plots import PlotData, as_png, capacity_steps, draw, shares
from splitmesh.lab.records import check_lines
from splitmesh.lab.report import render_report, why
from splitmesh.lab.strikes import Blow, Strike
from splitmesh.lab.summary import Fidelity, summarise
from splitmesh.lab.view import LiveView, line, mix_bar, rate, render

EDGE = {
    "policy": "adaptive", "captured": 412, "fps": 24.9, "hit_rate": 0.953, "hit_rate_5s": 0.99,
    "latency_ms": {"p50": 61.0, "p95": 118.0, "p99": 140.0}, "decisions_5s": {"split": 90, "local": 10},
    "link": {"bandwidth_bps": 3.1e6, "base_ms": 22.0, "backlog_bytes": 4100}, "uplink_bps": 8.4e5,
    "breaker": "closed", "broker": "connected",
}  # fmt: skip


def page(run=None, fidelity=None, **changes) -> str:
    run = run or made_up_run()
    summary = summarise(run, dataclasses.replace(made_up_facts(), **changes), fidelity or made_up_fidelity(run))
    return render_report(summary, made_up_plot(run))


def test_the_report_is_one_file_without_external_resources():
    text = page()
    assert text.startswith("<!doctype html>") and "<svg" in text and "</html>" in text
    fetched = re.findall(r"""(?:src|href)=["'](?!#|data:)([^"']+)""", text)
    assert fetched == []
    assert "<script" not in text and "@import" not in text
    assert "$" not in re.sub(r"<svg.*</svg>", "", text, flags=re.DOTALL)


def test_the_report_links_the_files_that_lie_beside_it_and_no_others():
    run = made_up_run()
    summary = summarise(run, made_up_facts(), made_up_fidelity(run))
    text = render_report(summary, made_up_plot(run), files=("results.jsonl", "annotated.mp4", ".hidden", "spans"))
    assert set(re.findall(r"""(?:src|href)=["'](?!#|data:)([^"']+)""", text)) == {"results.jsonl", "annotated.mp4"}
    assert "<video" in text and "<video" not in page()


def test_the_shares_of_the_outcomes_add_up_to_one_wherever_frames_were_captured():
    data = made_up_plot(made_up_run())
    edges, by_outcome = shares(data, 1.0)
    total = sum(by_outcome.values())
    assert len(edges) == len(total) + 1 and set(total[:30].round(9)) == {1.0}
    assert by_outcome[Outcome.LOCAL][14] == 1.0 and by_outcome[Outcome.RESUMED][12] == 0.6


@pytest.mark.parametrize("without", ["capacity", "fidelity", "outages", "kills", "title"])
def test_the_picture_does_without_what_is_not_known(without):
    data = dataclasses.replace(made_up_plot(made_up_run()), **{without: "" if without == "title" else ()})
    if without == "fidelity":
        data = dataclasses.replace(data, fidelity={})
    drawn = draw(data)
    words = {text.get_text() for panel in drawn.axes for text in panel.texts}
    assert {"Uplink", "How frames were answered", "Latency", "Fidelity"} <= words
    assert ("not measured" in words) == (without == "fidelity")
    assert any("outage" in word for word in words) == (without != "outages")


def test_titles_and_legends_lie_outside_the_data():
    drawn = draw(made_up_plot(made_up_run()))
    drawn.canvas.draw()
    for panel in drawn.axes:
        data_area = panel.get_window_extent()
        assert panel.get_legend() is None or panel.get_legend().get_window_extent().y0 >= data_area.y1
        for above, below in zip(drawn.axes, drawn.axes[1:], strict=False):
            titles = [t.get_window_extent() for t in below.texts[:1]]
            assert all(box.y1 <= above.get_window_extent().y0 for box in titles)


def test_the_report_tells_the_conservation_law_the_points_and_the_misses():
    text = page()
    assert 'The conservation law <b class="good">holds</b>' in text
    assert "split/c2/u8zstd-5" in text and "ring full" in text and "time went to network 120 ms" in text
    assert "outage of 4 s at 12 s" in text and "worker killed at 22 s" in text


def test_a_broken_law_is_shown_loudly():
    rows = [one.to_json_line() for one in made_up_frames(20)]
    text = page(check_lines(rows[:10] + rows[12:], expected=20))
    assert "is broken" in text and "seq 10, 11" in text and 'class="bad">NO' in text


def test_what_was_done_by_hand_stands_at_the_top_and_a_kill_by_hand_is_told_once():
    run = made_up_run()
    strikes = (
        Strike(4.0, Blow.BEND_LINK, factor=0.1, length_s=10.0),
        Strike(22.0, Blow.KILL_WORKER, "lab-cloud"),
        Strike(25.0, Blow.RESTART_WORKER, "lab-cloud"),
        Strike(26.0, Blow.SLOW_EDGE, "lab-edge", factor=8.0),
    )
    summary = summarise(run, dataclasses.replace(made_up_facts(), strikes=strikes), made_up_fidelity(run))
    told = (
        "link bent at 4.0 s: ×0.1 for 10 s, lab-cloud killed at 22.0 s, lab-cloud started again at 25.0 s, "
        "lab-edge slowed at 26.0 s: ×8"
    )
    text = render_report(summary, made_up_plot(run))
    assert f"Done by hand during the run: {told}." in text and "worker killed at 22 s" not in text
    screen = StringIO()
    Console(width=400, file=screen).print(summary_panel(summary))
    assert told in screen.getvalue()


def test_values_from_outside_are_escaped():
    text = page(model="<script>alert(1)</script>", incidents=("worker died: <b>",))
    assert "<script>" not in text and "worker died: &lt;b&gt;" in text


def test_a_run_without_frames_still_gives_a_page_and_a_picture():
    run = check_lines([])
    summary = summarise(run, made_up_facts(), Fidelity.none("no frames"))
    data = PlotData((), 150.0, 0.0)
    assert "No frame reached a decision" in render_report(summary, data)
    assert as_png(draw(data), dpi=40).startswith(b"\x89PNG")


def test_the_capacity_drops_to_zero_within_outages_and_ends_with_the_run():
    data = PlotData((), 150.0, 30.0, capacity=CAPACITY, outages=(OUTAGE,))
    times, values = capacity_steps(data)
    at = dict(zip(times, values, strict=True))
    assert at == {0.0: 4.0, 8.0: 1.5, 12.0: 0.0, 16.0: 1.5, 20.0: 3.0, 30.0: 3.0}


def test_why_names_the_reason_the_note_and_where_time_went():
    told = why(
        frame(
            0,
            Outcome.RESUMED,
            170.0,
            note="timer",
            times_ms={"head": 40.0, "network": 80.0, "encode": 2.0, "resume": 30.0},
        )
    )
    assert told == "highest utility; timer; time went to network 80 ms, head 40 ms, resume 30 ms"
    assert why(frame(0, Outcome.SHED, None, reason="")) == "no reason was recorded"


def shown(view: LiveView) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(render(view))
    return console.export_text()


def test_the_live_table_shows_what_the_edge_says():
    text = shown(LiveView(20.0, 60.0, EDGE, {"served": 300, "predicted_wait_ms": 4.0}, 4.0e6))
    for expected in (
        "412 captured at 24.9 fps",
        "99.0 % last 5 s",
        "p50 61 ms",
        "split 90%",
        "true 4.00 Mbit/s",
        "estimated 3.10 Mbit/s",
        "840 kbit/s",
        "served 300",
        "breaker closed",
        "40 s left",
    ):
        assert expected in text


def test_the_live_table_shows_outage_worker_state_and_notices_and_survives_no_status_at_all():
    text = shown(LiveView(1.0, None, {}, {}, 4.0e6, True, "killed", notices=("worker killed at 1.0 s",)))
    assert "OUTAGE" in text and "worker killed" in text and "- captured at -" in text


def test_notices_stand_on_lines_of_their_own_below_the_progress_bar():
    rows = shown(LiveView(20.0, 60.0, EDGE, notices=("first", "second"))).splitlines()
    assert sum(row.strip("│ ").startswith("• ") for row in rows) == 2


def test_the_plain_line_is_one_line():
    text = line(LiveView(20.0, 60.0, EDGE, {}, None, True))
    assert "\n" not in text and "hit 99.0 %" in text and "link outage" in text and "split=90 local=10" in text
    assert line(LiveView(0.0, None))


def test_rates_and_the_mix_bar():
    assert (rate(None), rate(640_400.0), rate(3.21e6)) == ("-", "640 kbit/s", "3.21 Mbit/s")
    bar = mix_bar({"split": 3, "local": 1}, cells=40).plain
    assert bar.count("█") == 40 and bar.endswith("split 75%  local 25%")
    assert mix_bar({}).plain == "-"
