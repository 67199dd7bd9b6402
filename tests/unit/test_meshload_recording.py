"""Recordings: what is written is read, whatever is damaged is noticed, what was not to be kept is not there."""

from __future__ import annotations

import resource
import stat
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_requests import MIXED, PICTURE, SHA, S, full, written

from meshload.recording.entries import Asked, End, Head, Openers, Recording, entry
from meshload.recording.layout import (
    END,
    HEAD,
    REQUEST,
    ChunkWriter,
    RecordingError,
    chunk_bytes,
    read_chunks,
)
from splitmesh.errors import WireError


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_chunks_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("chunks") / "a.rec"
    writer = ChunkWriter(path)
    chunks = [(HEAD, b"{}"), *((REQUEST, body) for body in bodies), (END, b"{}")]
    for kind, body in chunks:
        writer.add(kind, body)
    writer.close()
    assert list(read_chunks(path)) == chunks and path.stat().st_size == writer.bytes


def test_only_its_owner_may_read_a_recording_and_none_is_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "a" / "b.rec", *MIXED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(RecordingError, match="is there already"):
        ChunkWriter(path)
    assert path.read_bytes() == before


def test_a_disk_that_takes_no_more_ends_it_and_what_is_there_can_be_read(tmp_path: Path) -> None:
    path, (soft, hard) = tmp_path / "a.rec", resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = ChunkWriter(path)
    writer.add(HEAD, Head("default", True, "").to_bytes())
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(RecordingError, match="any more: File too large"):
            for number in range(50):
                writer.add(REQUEST, entry(number, full(number), {}, keep_payload=True))
        with pytest.raises(RecordingError, match="any more"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    survey = Recording(path).survey()
    assert survey.end.why == "cut short" and 0 < survey.works.total() < 50


def test_a_file_that_was_cut_short_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.rec", *MIXED).read_bytes()
    kept = list(read_chunks(tmp_path / "whole.rec"))
    cut, seen = tmp_path / "cut.rec", set()
    for size in range(10, len(whole)):
        cut.write_bytes(whole[:size])
        found = list(read_chunks(cut))
        assert found == kept[: len(found)] and len(found) < len(kept)
        seen.add(len(found))
    assert seen == set(range(len(kept)))
    survey = Recording(cut).survey()
    assert survey.end == End(3 * S + 1, 5, "cut short") and survey.works.total() == 4
    cut.write_bytes(b"")
    with pytest.raises(RecordingError, match="no recording"):
        Recording(cut).survey()


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """Or, where it is a length, taken for a file that was cut short; never for another request."""
    whole = bytearray(
        written(tmp_path / "a.rec", (0.5, full(1, payload=b"abc")), (1.0, full(2, payload=b"d"))).read_bytes()
    )
    kept = list(read_chunks(tmp_path / "a.rec"))
    for at in range(len(whole)):
        whole[at] ^= 0x41
        (tmp_path / "b.rec").write_bytes(whole)
        whole[at] ^= 0x41
        try:
            found = list(read_chunks(tmp_path / "b.rec"))
        except RecordingError:
            continue
        assert len(found) < len(kept) and found == kept[: len(found)]


def test_chunks_that_change_places_or_are_missing_are_noticed(tmp_path: Path) -> None:
    def of(*seqs: int) -> bytes:
        return written(tmp_path / f"{seqs}.rec", *((1.0, full(n, payload=b"same")) for n in seqs)).read_bytes()

    two = of(1, 2)
    size = chunk_bytes(len(entry(S, full(1, payload=b"same"), {}, keep_payload=True)))
    start = two.index(b"R", 10 + chunk_bytes(0))
    first, second, rest = two[start : start + size], two[start + size : start + 2 * size], two[start + 2 * size :]
    assert rest.startswith(b"E")
    broken = tmp_path / "broken.rec"
    for middle in (second + first, second, first):
        broken.write_bytes(two[:start] + middle + rest)
        with pytest.raises(RecordingError, match="damaged"):
            list(read_chunks(broken))


def test_another_version_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.rec", *MIXED)
    path.write_bytes(b"SMLOAD-R\x02\x00" + path.read_bytes()[10:])
    with pytest.raises(RecordingError, match="format 2, this meshload reads 1"):
        Recording(path).survey()


def test_requests_come_back_with_all_that_they_said(tmp_path: Path) -> None:
    found = list(Recording(written(tmp_path / "a.rec", *MIXED)).requests())
    assert found[0] == Asked(S // 4, "", "", "", "", 80_000, b"delta", 5, 9, True)
    assert found[1] == Asked(S // 2, "cam-1", "m", SHA, "", 90_000, PICTURE, len(PICTURE), 0, False)
    assert found[2] == Asked(S, "cam-2", "m", SHA, "n37", 200_000, b"key", 3, 7, False)
    assert found[3] == Asked(3 * S // 2, "cam-2", "m", SHA, "n37", 80_000, b"delta", 5, 7, True)


def test_a_survey_counts_what_can_be_asked_again(tmp_path: Path) -> None:
    survey = Recording(written(tmp_path / "a.rec", *MIXED)).survey()
    assert survey.works == Counter({("m", ""): 1, ("m", "n37"): 2, ("other", ""): 1})
    assert (survey.orphans, survey.on_streams, survey.edges) == (1, 2, {"cam-1", "cam-2"})
    assert survey.budgets_us == (80_000, 200_000) and survey.payload_bytes == len(PICTURE) + 3 + 5 + 10
    assert survey.end == End(4 * S, 5, "time")


def test_without_payloads_the_file_holds_none_and_still_their_sizes(tmp_path: Path) -> None:
    secret = b"a face, 0123456789" * 5
    path = written(tmp_path / "a.rec", (1.0, full(1, payload=secret)), payloads=False)
    (found,) = Recording(path).requests()
    assert found.payload == b"" and found.payload_bytes == len(secret) and secret not in path.read_bytes()
    assert b"a face" not in path.read_bytes() and not Recording(path).survey().head.payloads


def test_requests_of_older_edges_keep_their_budget_from_the_header() -> None:
    from splitmesh.v1 import infer_pb2 as pb

    old = pb.InferRequest(
        frame_id="e.r.1", edge_id="e", model="m", model_sha256=SHA, payload=b"x"
    ).SerializeToString()
    with pytest.raises(WireError):
        entry(0, old, {}, keep_payload=True)
    body = entry(5, old, {"Sm-Budget-Us": "1234"}, keep_payload=True)
    assert Openers().read(body) == Asked(5, "e", "m", SHA, "", 1234, b"x", 1, 0, False)


def test_what_is_no_request_is_not_recorded() -> None:
    for raw in (b"", b"\xff\xff", full(1)[:-3]):
        with pytest.raises(WireError):
            entry(0, raw, {}, keep_payload=True)
