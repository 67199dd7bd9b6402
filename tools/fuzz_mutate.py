"""Owns what the fuzzer does to a good payload: flips, sets, cuts, insertions, splices, lies in length fields.

Everything is drawn from the generator handed in: the same seed gives the same payloads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

BOUNDARIES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31,
              2**32 - 1)  # fmt: skip
HEAD_BYTES = 96
"""Where most heads, tables and length fields lie; half of the edits aim there."""
MAX_BYTES = 1 << 18

Edit = Callable[[bytearray, bytes, Random], None]


def mutated(seeds: Sequence[bytes], rng: Random) -> bytearray:
    """One of `seeds` with one to four random edits; once in two hundred, noise that is no payload at all."""
    payload = bytearray(rng.choice(seeds))
    if rng.random() < 0.005:
        return bytearray(rng.randbytes(rng.randrange(200)))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        rng.choice(EDITS)(payload, rng.choice(seeds), rng)
    del payload[MAX_BYTES:]
    return payload


def _at(payload: bytearray, rng: Random) -> int:
    end = len(payload) if rng.random() < 0.5 else min(len(payload), HEAD_BYTES)
    return rng.randrange(end) if end else 0


def _flip(payload: bytearray, _: bytes, rng: Random) -> None:
    for _flips in range(rng.choice((1, 1, 2, 4, 8))):
        if payload:
            payload[_at(payload, rng)] ^= 1 << rng.randrange(8)


def _set(payload: bytearray, _: bytes, rng: Random) -> None:
    at = _at(payload, rng)
    value = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    payload[at : at + 1] = bytes([value]) * rng.choice((1, 1, 2, 4, 16))


def _overwrite(payload: bytearray, _: bytes, rng: Random) -> None:
    at, count = _at(payload, rng), rng.choice((1, 2, 4, 8, 32))
    payload[at : at + count] = rng.randbytes(count)


def _cut(payload: bytearray, _: bytes, rng: Random) -> None:
    del payload[
        rng.randrange(len(payload) + 1) if rng.random() < 0.5 else max(0, len(payload) - rng.randrange(1, 9)) :
    ]


def _remove(payload: bytearray, _: bytes, rng: Random) -> None:
    at = _at(payload, rng)
    del payload[at : at + rng.choice((1, 2, 4, 16, 64))]


def _insert(payload: bytearray, _: bytes, rng: Random) -> None:
    at, count = _at(payload, rng), rng.choice((1, 2, 4, 16, 64))
    payload[at:at] = rng.randbytes(count) if rng.random() < 0.5 else bytes(count)


def _repeat(payload: bytearray, _: bytes, rng: Random) -> None:
    at, count = _at(payload, rng), rng.choice((1, 4, 16, 256))
    payload[at:at] = payload[at : at + count] * rng.choice((1, 2, 8))


def _splice(payload: bytearray, other: bytes, rng: Random) -> None:
    """The front of one payload and the back of another."""
    payload[rng.randrange(len(payload) + 1) :] = other[rng.randrange(len(other) + 1) :]


def _transplant(payload: bytearray, other: bytes, rng: Random) -> None:
    """A piece of another payload, at the same place."""
    at, count = _at(bytearray(other), rng), rng.choice((1, 4, 16, 64))
    payload[at : at + count] = other[at : at + count]


def _length(payload: bytearray, _: bytes, rng: Random) -> None:
    """A 16 or 32 bit field, either byte order, set to a boundary or moved a little."""
    size = rng.choice((2, 4))
    order: Literal["little", "big"] = "little" if rng.random() < 0.67 else "big"
    at = _at(payload, rng)
    if at + size > len(payload):
        return
    if rng.random() < 0.5:
        value = rng.choice(BOUNDARIES)
    else:
        value = int.from_bytes(payload[at : at + size], order) + rng.choice((-256, -16, -2, -1, 1, 2, 16, 256))
    payload[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)


EDITS: tuple[Edit, ...] = (
    *(_flip, _flip, _set, _set, _overwrite, _length, _length),
    *(_cut, _remove, _insert, _repeat, _splice, _transplant),
)
