from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.errors import SourceError
from splitmesh.media.captured import Captured
from splitmesh.media.handover import Handover


def frame(seq: int) -> Captured:
    return Captured(seq, seq, seq, seq, None, False, False, 2, 2)


def seqs(frames: list[Captured]) -> list[int]:
    return [f.seq for f in frames]


async def until(condition: object) -> None:
    assert callable(condition)
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the condition never came true")


def test_drops_come_out_before_younger_frames_and_never_early() -> None:
    handover = Handover(2)
    for seq in range(2):
        handover.put(frame(seq), wait=False)
    first = handover.next(0)
    assert first is not None and first.seq == 0
    for seq in range(2, 5):  # 1 and 2 make room
        handover.put(frame(seq), wait=False)
    assert handover.take_dropped() == []  # they are younger than 0, which is all that was handed out
    third = handover.next(0)
    assert third is not None and third.seq == 3
    assert seqs(handover.take_dropped()) == [1, 2]
    assert handover.take_dropped() == []


def test_close_turns_waiting_frames_into_dropped_ones_without_pictures() -> None:
    handover = Handover(4)
    for seq in range(3):
        handover.put(frame(seq), wait=False)
    handover.close()
    assert handover.next(0) is None
    assert handover.put(frame(3), wait=True) is False
    assert seqs(handover.take_dropped()) == [0, 1, 2, 3]
    assert handover.counts() == (4, 0, 4, 0)


def test_error_comes_after_the_frames_before_it() -> None:
    handover = Handover(4)
    handover.put(frame(0), wait=False)
    handover.end(SourceError("broken", url="x"))
    assert handover.next(0) is not None
    with pytest.raises(SourceError, match="broken"):
        handover.next(0)


def test_next_times_out() -> None:
    with pytest.raises(TimeoutError):
        Handover(1).next(0.001)


def test_a_full_hand_over_makes_the_producer_wait_and_close_frees_it() -> None:
    handover = Handover(1)
    results: list[bool] = []
    producer = threading.Thread(target=lambda: results.extend(handover.put(frame(n), wait=True) for n in range(3)))
    producer.start()
    first = handover.next(5)
    assert first is not None and first.seq == 0
    handover.close()
    producer.join(5)
    assert not producer.is_alive()
    assert results[0] is True and results[-1] is False
    assert seqs(handover.take_dropped()) == [1, 2]


def test_unsettled_drops_are_bounded() -> None:
    handover = Handover(1, dropped_bound=2)
    done = threading.Event()

    def produce() -> None:
        for seq in range(4):
            handover.put(frame(seq), wait=False)
        done.set()

    producer = threading.Thread(target=produce)
    producer.start()
    producer.join(0.05)
    assert not done.is_set()  # 0 and 1 are dropped, 2 waits, 3 has to wait for settlement
    taken = handover.next(5)
    assert taken is not None and taken.seq == 2
    assert seqs(handover.take_dropped()) == [0, 1]
    producer.join(5)
    assert done.is_set()


async def test_get_wakes_on_put_from_another_thread_and_on_end() -> None:
    handover = Handover(2)
    getting = asyncio.create_task(handover.get())
    await until(lambda: handover._waiter is not None)
    threading.Thread(target=lambda: handover.put(frame(0), wait=False)).start()
    got = await asyncio.wait_for(getting, 5)
    assert got is not None and got.seq == 0
    getting = asyncio.create_task(handover.get())
    await until(lambda: handover._waiter is not None)
    threading.Thread(target=handover.end).start()
    assert await asyncio.wait_for(getting, 5) is None


async def test_cancelled_get_loses_no_frame() -> None:
    handover = Handover(2)
    getting = asyncio.create_task(handover.get())
    await until(lambda: handover._waiter is not None)
    handover.put(frame(0), wait=False)  # the wake-up is under way when the task is cancelled
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    got = await handover.get()
    assert got is not None and got.seq == 0


async def test_close_wakes_a_waiting_get() -> None:
    handover = Handover(2)
    getting = asyncio.create_task(handover.get())
    await until(lambda: handover._waiter is not None)
    handover.close()
    assert await asyncio.wait_for(getting, 5) is None


async def test_one_consumer_only() -> None:
    handover = Handover(2)
    getting = asyncio.create_task(handover.get())
    await until(lambda: handover._waiter is not None)
    with pytest.raises(RuntimeError, match="one consumer"):
        await handover.get()
    handover.close()
    await getting


def test_a_closed_loop_does_not_break_the_producer() -> None:
    handover = Handover(2)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(handover.get())
    loop.run_until_complete(asyncio.sleep(0))
    held = handover._waiter
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.close()
    handover._waiter = held
    assert handover.put(frame(0), wait=False)


@given(st.integers(1, 4), st.lists(st.sampled_from(["put", "next", "take"]), max_size=80))
def test_every_frame_comes_out_once_and_in_order(capacity: int, steps: list[str]) -> None:
    handover = Handover(capacity)
    put, out, newest = 0, [], -1
    for step in steps:
        if step == "put":
            handover.put(frame(put), wait=False)
            put += 1
        elif step == "next" and handover.counts()[3]:
            got = handover.next(0)
            assert got is not None and got.seq > newest
            newest = got.seq
            out.append(got.seq)
        else:
            dropped = seqs(handover.take_dropped())
            assert all(seq < newest for seq in dropped)
            out += dropped
    handover.close()
    rest = seqs(handover.take_dropped())
    assert rest == sorted(rest)
    assert sorted(out + rest) == list(range(put))
