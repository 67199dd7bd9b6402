"""A stream of the temporal codec as it was once sent: every process after must come to the same integers.

`python tests/unit/test_temporal_golden.py` writes it anew, which is right only when the format's version changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from temporal_clips import clip, frame, table

from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.head import parse_head
from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.codec.temporal.encoder import TemporalEncoder
from splitmesh.codec.temporal.frame import KEY, MOTION

GOLDEN = Path(__file__).parents[1] / "golden" / "temporal"
LEVELS = (96, 96, 80, 120, 96, 96, 96)


def payloads() -> Iterator[bytes]:
    data = (GOLDEN / "stream.bin").read_bytes()
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def hashes(decoder: TemporalDecoder, sent: list[bytes]) -> list[int]:
    """Of the state after each of the payloads."""
    found = []
    for payload in sent:
        decoder.decode(payload)
        state = parse_head(payload)[0].state
        assert state is not None
        held = decoder._references.use(state.number)
        assert held is not None
        found.append(held.hash)
    return found


def test_a_golden_stream_still_decodes_to_the_same_integers() -> None:
    decoder = TemporalDecoder(CompactTable.from_bytes((GOLDEN / "small.table").read_bytes()))
    sent = list(payloads())
    assert hashes(decoder, sent) == json.loads((GOLDEN / "hashes.json").read_text())
    flags = {parse_head(payload)[0].flags for payload in sent}
    assert flags == {0, KEY, MOTION}
    last = decoder.decode(sent[-1])["cut"]
    assert np.abs(last - frame(len(LEVELS) - 1, speed=0.5)["cut"]).mean() < 0.2 * clip(1).std()


def write() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    encoder, sent = TemporalEncoder(table()), []
    for i, level in enumerate(LEVELS):
        coded = encoder.encode(frame(i, speed=0.5), level=level)
        sent.append(coded.payload)
        if i != 3:
            encoder.acknowledged(coded.number)
    coded = encoder.encode(frame(len(LEVELS) - 1, speed=0.5), level=LEVELS[-1])  # the same again: nothing moves
    sent.append(coded.payload)
    (GOLDEN / "small.table").write_bytes(table().to_bytes())
    (GOLDEN / "stream.bin").write_bytes(b"".join(len(p).to_bytes(4, "little") + p for p in sent))
    (GOLDEN / "hashes.json").write_text(json.dumps(hashes(TemporalDecoder(table()), sent)) + "\n")


if __name__ == "__main__":
    write()
