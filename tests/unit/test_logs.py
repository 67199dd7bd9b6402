"""Logs: one line per record for people or machines, fields kept, secrets not."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from splitmesh.telemetry.logs import configure_logs, masked
from splitmesh.telemetry.repeats import Repeats


@pytest.fixture
def root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


@pytest.mark.usefixtures("root_as_before")
def test_json_lines_carry_fields_and_trace() -> None:
    out = io.StringIO()
    configure_logs(as_json=True, stream=out)
    logging.getLogger("splitmesh.edge").warning("late by %d ms", 7, extra={"trace_id": "ab", "bytes": 12})
    row = json.loads(out.getvalue())
    assert row["message"] == "late by 7 ms"
    assert (row["level"], row["logger"], row["trace_id"], row["bytes"]) == ("warning", "splitmesh.edge", "ab", 12)
    assert row["ts"].endswith("Z") and len(row["ts"]) == len("2026-01-01T00:00:00.000000Z")


@pytest.mark.usefixtures("root_as_before")
def test_json_lines_stay_one_line_with_an_exception() -> None:
    out = io.StringIO()
    configure_logs(as_json=True, stream=out)
    try:
        raise ValueError("nats://me:hunter2@host is down")
    except ValueError:
        logging.getLogger("splitmesh.bus").exception("lost")
    assert out.getvalue().count("\n") == 1
    assert "ValueError" in json.loads(out.getvalue())["exception"]
    assert "hunter2" not in out.getvalue()


@pytest.mark.usefixtures("root_as_before")
def test_one_liners_are_short_and_without_colour_off_a_terminal() -> None:
    out = io.StringIO()
    configure_logs(stream=out)
    logging.getLogger("splitmesh.edge").warning("late", extra={"frame_id": "e.r.1"})
    line = out.getvalue()
    assert line.endswith("WARNING edge: late frame_id=e.r.1\n")
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://me:pw@host:4222", "nats://***@host:4222"),
        ("to nats://token@a,nats://b:c@d now", "to nats://***@a,nats://***@d now"),
        ("rtsp://cam/live?token=abc&x=1", "rtsp://cam/live?token=***&x=1"),
        ("https://h/p?x=1&signature=abc", "https://h/p?x=1&signature=***"),
        ("user@example.org wrote", "user@example.org wrote"),
        ("rtsp://cam/a@b", "rtsp://cam/a@b"),
    ],
)
def test_secrets_in_urls_do_not_print(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.usefixtures("root_as_before")
def test_a_line_that_repeats_becomes_a_count() -> None:
    out, clock = io.StringIO(), [0.0]
    configure_logs(as_json=True, stream=out)
    handler = logging.getLogger().handlers[0]
    handler.filters[:] = [Repeats(window_s=10, first=3, clock=lambda: clock[0])]
    log = logging.getLogger("splitmesh.edge")
    for n in range(100):
        log.warning("frame %d was refused", n)
    log.warning("another fault")
    clock[0] = 10.0
    log.warning("frame %d was refused", 100)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["message"] for row in rows] == [
        *(f"frame {n} was refused" for n in range(3)),
        "another fault",
        "frame 100 was refused",
    ]
    assert [row.get("repeats") for row in rows] == [None] * 4 + [97]


@pytest.mark.usefixtures("root_as_before")
def test_errors_are_never_only_counted() -> None:
    out = io.StringIO()
    configure_logs(stream=out)
    for _ in range(50):
        logging.getLogger("splitmesh.edge").error("frames were lost, this is a bug")
    assert len(out.getvalue().splitlines()) == 50


def test_kinds_of_lines_are_bounded() -> None:
    repeats = Repeats(first=1)
    for n in range(10_000):
        assert repeats.filter(logging.LogRecord("a", logging.WARNING, "", 0, f"no arguments here {n}", None, None))
    assert len(repeats._windows) <= 512
