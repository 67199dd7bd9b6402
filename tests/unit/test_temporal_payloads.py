"""Payloads of the temporal codec that are not what an encoder sends: each is a CodecError, and changes nothing."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from temporal_clips import LEVEL, clip, frame, table

from splitmesh.codec.compact.intra import encode_compact
from splitmesh.codec.head import STATEFUL_HEAD_BYTES, Head, State, build_payload, parse_head
from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.codec.temporal.encoder import TemporalEncoder
from splitmesh.codec.temporal.frame import KEY, MOTION
from splitmesh.errors import CodecError, NeedKeyframe


def _payloads() -> tuple[bytes, bytes, bytes]:
    """A keyframe, one that builds on it without movements, and one with."""
    encoder = TemporalEncoder(table())
    key = encoder.encode(frame(1, speed=0.5), level=LEVEL)
    encoder.acknowledged(key.number)
    still = encoder.encode(frame(1, speed=0.5), level=LEVEL).payload
    moving = encoder.encode(frame(2, speed=0.5), level=LEVEL).payload
    assert parse_head(still)[0].flags == 0 and parse_head(moving)[0].flags == MOTION
    return key.payload, still, moving


def _altered(payload: bytes, body: bytes | None = None, *, flags: int | None = None, **state: int) -> bytes:
    head, old = parse_head(payload)
    assert head.state is not None
    fields = {name: state.get(name, getattr(head.state, name)) for name in ("number", "reference", "hash")}
    flags = head.flags if flags is None else flags
    return build_payload(
        Head(head.codec, head.level, flags, head.table, State(**fields)), bytes(old) if body is None else body
    )


@pytest.mark.parametrize(
    "case",
    ["flags", "key with hash", "key with reference", "key that moves", "on itself", "odd movement",
     "short movements", "cut short", "left over", "empty", "checksum", "compact"],
)  # fmt: skip
def test_malformed_payloads_are_codec_errors_and_leave_the_decoder_as_it_was(case: str) -> None:
    key, still, moving = _payloads()
    body = bytes(parse_head(moving)[1])
    bad = {
        "flags": lambda: _altered(still, flags=4),
        "key with hash": lambda: _altered(key, hash=1),
        "key with reference": lambda: _altered(key, reference=5),
        "key that moves": lambda: _altered(key, flags=KEY | MOTION),
        "on itself": lambda: _altered(still, reference=1),
        "odd movement": lambda: _altered(moving, bytes([body[0], body[1] | 0x7F, *body[2:]])),
        "short movements": lambda: _altered(moving, b"\xff"),
        "cut short": lambda: _altered(still, bytes(parse_head(still)[1])[:-1]),
        "left over": lambda: _altered(still, bytes(parse_head(still)[1]) + b"\0"),
        "empty": lambda: key[: STATEFUL_HEAD_BYTES - 1],
        "checksum": lambda: key[:-1] + bytes([key[-1] ^ 1]),
        "compact": lambda: encode_compact(frame(0), table=table(), level=LEVEL),
    }[case]()
    decoder = TemporalDecoder(table())
    first = decoder.decode(key)
    with pytest.raises(CodecError) as caught:
        decoder.decode(bad)
    assert not isinstance(caught.value, NeedKeyframe)
    assert len(decoder._references) == 1
    decoder.decode(moving)
    assert np.array_equal(decoder.decode(key)["cut"], first["cut"])


def test_any_byte_that_changes_is_noticed() -> None:
    key, still, _ = _payloads()
    decoder = TemporalDecoder(table())
    decoder.decode(key)
    for at in range(len(still)):
        for bit in (0, 5):
            changed = bytearray(still)
            changed[at] ^= 1 << bit
            with pytest.raises(CodecError):
                decoder.decode(changed)


def test_mutations_with_a_checksum_that_fits_are_codec_errors_or_tensors() -> None:
    key, still, moving = _payloads()
    rng = np.random.default_rng(5)
    decoder = TemporalDecoder(table())
    decoder.decode(key)
    refused = 0
    for i in range(300):
        payload = bytearray((key, still, moving)[i % 3])
        for at in rng.integers(8, len(payload), int(rng.integers(1, 4))):
            payload[at] = rng.integers(0, 256)
        payload = payload[: len(payload) - int(rng.integers(0, 3))]
        at = STATEFUL_HEAD_BYTES - 4
        checksum = zlib.crc32(payload[at + 4 :], zlib.crc32(payload[:at]))
        payload[at : at + 4] = checksum.to_bytes(4, "little")
        try:
            tensors = decoder.decode(payload)
            assert tensors["cut"].shape == clip(1).shape and np.isfinite(tensors["cut"]).all()
        except CodecError:
            refused += 1
    assert refused > 50
