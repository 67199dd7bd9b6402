"""`results.jsonl` on a disk that fills up and empties again: lost lines are counted, later ones are whole."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from splitmesh.edge.results import ResultLog
from splitmesh.errors import OutputError
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.records import read_records


def record(seq: int) -> FrameRecord:
    return FrameRecord(f"e.r.{seq}", seq, seq, seq, seq, Outcome.EXPIRED, "local", "test", 150.0, None, False)


@contextmanager
def full_at(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond `size_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_torn_line_spoils_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "results.jsonl"
    log = ResultLog(path)
    log.write(record(0))
    with full_at(path.stat().st_size + 40), caplog.at_level(logging.ERROR):
        for seq in (1, 2, 3):
            log.write(record(seq))
    assert (log.written, log.lost) == (1, 3)
    assert caplog.text.count("results are being lost") == 1
    log.write(record(4))
    log.close()
    run = read_records(path)
    assert [r.seq for r in run.records] == [0, 4]
    assert len(run.malformed) == 1 and run.missing == (1, 2, 3) and not run.conserved
    assert "lacks 3 of 5 lines" in caplog.text


def test_a_line_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    """An edge that is killed loses no settled frame."""
    log = ResultLog(tmp_path / "results.jsonl")
    log.write(record(0))
    assert read_records(log.path).conserved
    log.close()


@pytest.mark.parametrize("place", ["file/results.jsonl", "folder"])
def test_what_can_not_be_opened_is_told_by_name(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=place.replace("/", ".")) as caught:
        ResultLog(tmp_path / place)
    assert caught.value.path == str(tmp_path / place) and caught.value.advice
