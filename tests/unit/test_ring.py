from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.frames.ring import Ring


def test_drops_the_oldest_when_full() -> None:
    ring: Ring[str] = Ring(2)
    assert [ring.push(x) for x in "abc"] == [None, None, "a"]
    assert ring.full
    assert [ring.pop(), ring.pop(), ring.pop()] == ["b", "c", None]
    assert (ring.pushed, ring.dropped, len(ring)) == (3, 1, 0)
    assert repr(ring) == "Ring(0/2, pushed=3, dropped=1)"


def test_needs_room_for_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Ring(0)


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=80))
def test_conserves_and_keeps_order(capacity: int, pushes: list[bool]) -> None:
    ring: Ring[int] = Ring(capacity)
    model: deque[int] = deque()
    popped = 0
    for number, push in enumerate(pushes):
        if push:
            expected = model.popleft() if len(model) == capacity else None
            model.append(number)
            assert ring.push(number) == expected
        else:
            item = ring.pop()
            assert item == (model.popleft() if model else None)
            popped += item is not None
        assert len(ring) == len(model) <= capacity
        assert ring.pushed == popped + ring.dropped + len(ring)
