"""What targets keep of payloads: made once as long as there is room, and the room is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshload.target import Payload
from meshload.targets.kept import MAX_KEPT, MAX_KEPT_BYTES, Kept


def counting() -> tuple[Kept[bytes], list[Payload]]:
    made: list[Payload] = []

    def make(payload: Payload) -> bytes:
        made.append(payload)
        return payload.body + b"!"

    return Kept(make, len), made


def test_what_has_room_is_made_once() -> None:
    kept, made = counting()
    one, two = Payload(b"a"), Payload(b"a")
    assert [kept.of(each) for each in (one, two, one, two)] == [b"a!"] * 4
    assert made == [one, two] and len(kept) == 2 and kept.bytes == 2 * (1 + 2)


def test_number_and_bytes_are_bounded_and_what_was_kept_stays() -> None:
    kept, made = counting()
    payloads = [Payload(b"") for _ in range(MAX_KEPT + 100)]
    for _ in range(2):
        for payload in payloads:
            kept.of(payload)
    assert len(kept) == MAX_KEPT and len(made) == MAX_KEPT + 200


@given(st.lists(st.integers(0, MAX_KEPT_BYTES), max_size=20))
def test_bytes_are_bounded_but_for_the_first(sizes: list[int]) -> None:
    kept = Kept(lambda payload: int(payload.name), int)
    payloads = [Payload(b"", name=str(size)) for size in sizes]
    assert [kept.of(payload) for payload in payloads] == sizes
    assert kept.bytes <= MAX_KEPT_BYTES and (not sizes or len(kept) > 0)


def test_one_that_is_larger_than_all_room_is_made_once() -> None:
    made: list[Payload] = []
    kept = Kept(lambda payload: made.append(payload) or b"", lambda _: MAX_KEPT_BYTES + 1)
    only, other = Payload(b""), Payload(b"")
    for payload in (only, other, only, other):
        kept.of(payload)
    assert made == [only, other, other]
