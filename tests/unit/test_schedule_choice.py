"""Which worker gets a request: power of two choices on predicted time, credits, silence, and what is learnt."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from splitmesh.schedule.choice import CREDITS, SILENT_NS, Basis, WorkerChoice

MS = 1_000_000
S = 1000 * MS


def told(*waits_ms: float, now_ns: int = 0, **options: int) -> WorkerChoice[str]:
    """Workers a, b, c, … that have just told these waits."""
    choice: WorkerChoice[str] = WorkerChoice(**options)
    for name, wait_ms in zip("abcdefgh", waits_ms, strict=False):
        choice.told(name, wait_ms, now_ns)
    return choice


def picks(choice: WorkerChoice[str], count: int = 2000, now_ns: int = 0, profiled_ms: float = 10.0) -> Counter[str]:
    """How often each is picked if nothing changes meanwhile."""
    lots = random.Random(1)
    found = [choice.pick(profiled_ms, now_ns=now_ns, draw=lots.random()) for _ in range(count)]
    return Counter(each.worker for each in found if each is not None)


def test_nobody_known_or_all_silent_is_nobody() -> None:
    assert WorkerChoice[str]().pick(10.0, now_ns=0, draw=0.5) is None
    choice = told(0.0, 0.0)
    assert choice.pick(10.0, now_ns=SILENT_NS, draw=0.5) is not None
    assert choice.pick(10.0, now_ns=SILENT_NS + 1, draw=0.5) is None


def test_the_only_one_that_lives_is_taken_however_loaded_it_is() -> None:
    choice = told(900.0, 0.0)
    choice.told("a", 900.0, SILENT_NS)
    picked = choice.pick(10.0, now_ns=SILENT_NS + 1, draw=0.0)
    assert picked is not None and (picked.worker, picked.basis) == ("a", Basis.ONLY)


def test_every_pair_of_equals_is_drawn_alike() -> None:
    found = picks(told(0.0, 0.0, 0.0, 0.0), 4000)
    assert set(found) == set("abcd") and all(900 < count < 1100 for count in found.values()), found


def test_the_better_of_two_wins_and_the_worst_of_all_is_never_taken() -> None:
    """Of four with waits 1 < 2 < 3 < 4 the shares are 3/6, 2/6, 1/6 and 0."""
    found = picks(told(40.0, 30.0, 20.0, 10.0), 6000)
    assert "a" not in found
    shares = [found[name] / 6000 for name in "bcd"]
    assert shares == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.03)


def test_least_told_wait_would_herd_and_two_choices_do_not() -> None:
    """Between two tellings the least loaded of many gets no more than its share of pairs."""
    found = picks(told(0.0, *[5.0] * 7), 8000)
    assert 0.2 < found["a"] / 8000 < 0.3


def test_a_told_wait_drains_at_real_time() -> None:
    choice = told(100.0)
    assert choice.answer_ms("a", 10.0, 0) == pytest.approx(110.0)
    assert choice.answer_ms("a", 10.0, 60 * MS) == pytest.approx(50.0)
    assert choice.answer_ms("a", 10.0, 500 * MS) == pytest.approx(10.0)


def test_what_the_telling_could_not_count_is_added_and_what_it_counted_is_not() -> None:
    choice = told(0.0)
    choice.sent("a", "1", 20.0, 10 * MS)
    choice.sent("a", "2", 30.0, 40 * MS)
    assert choice.answer_ms("a", 10.0, 50 * MS) == pytest.approx(60.0)
    choice.told("a", 20.0, 50 * MS, path_ms=20.0)  # counts what was sent until 30 ms
    assert choice.answer_ms("a", 10.0, 50 * MS) == pytest.approx(20.0 + 30.0 + 10.0)
    choice.ended("a", "2")
    assert choice.answer_ms("a", 10.0, 50 * MS) == pytest.approx(30.0)


def test_a_full_worker_is_passed_over_until_all_are_and_then_the_least_loaded_is_taken() -> None:
    choice = told(0.0, 500.0)
    for number in range(CREDITS):
        choice.sent("a", str(number), 0.1, 0)
    assert picks(choice, 100) == {"b": 100}
    for number in range(CREDITS):
        choice.sent("b", str(number), 0.1, 0)
    picked = choice.pick(10.0, now_ns=0, draw=0.3)
    assert picked is not None and (picked.worker, picked.basis) == ("a", Basis.FULL)
    choice.answered("a", "0", measured_ms=0.1, slowness=1.0, now_ns=0)
    assert choice.under_way("a") == CREDITS - 1


def served(choice: WorkerChoice[str], worker: str, gamma: float, now_ns: int = 0) -> None:
    for number in range(10):
        choice.sent(worker, str(number), 10.0, now_ns)
        choice.answered(worker, str(number), measured_ms=10.0 * gamma, slowness=1.0, now_ns=now_ns)


def test_a_worker_twice_as_slow_gets_fewer() -> None:
    """Told waits alike: the slower one is taken only where both drawn are such."""
    choice = told(0.0, 0.0, 0.0)
    for worker, gamma in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        served(choice, worker, gamma)
    found = picks(choice, 3000)
    assert "c" not in found
    choice.sent("a", "x", 10.0, 0)
    choice.sent("a", "y", 10.0, 0)
    choice.sent("b", "z", 10.0, 0)
    assert picks(choice, 3000)["c"] > 800  # a needs 30 ms now, b and c need 20


def test_a_worker_that_was_never_measured_is_taken_to_be_as_quick_as_the_other() -> None:
    choice = told(0.0, 0.0)
    served(choice, "a", 0.2)
    assert 0.4 < picks(choice)["b"] / 2000 < 0.6


def test_what_was_slow_once_is_asked_again_after_a_while() -> None:
    choice = told(0.0, 0.0)
    served(choice, "a", 1.0)
    served(choice, "b", 10.0)
    later_ns = 20 * S
    for now_ns in (0, later_ns):
        for worker in "ab":
            choice.told(worker, 0.0, now_ns)
        choice.sent("a", f"busy {now_ns}", 10.0, now_ns)
        assert picks(choice, 200, now_ns).get("b", 0) == (0 if now_ns == 0 else 200)
        choice.ended("a", f"busy {now_ns}")


def test_who_says_that_it_goes_gets_nothing_until_it_is_heard_again() -> None:
    choice = told(0.0, 0.0)
    choice.gone("a")
    assert picks(choice, 100) == {"b": 100}
    choice.told("a", 0.0, 0)
    assert picks(choice, 100)["a"] > 20


def test_a_second_request_goes_to_another_worker() -> None:
    choice = told(0.0, 10.0)
    assert choice.pick(10.0, now_ns=0, draw=0.9, without={"a"}).worker == "b"  # type: ignore[union-attr]
    assert choice.pick(10.0, now_ns=0, draw=0.9, without={"a", "b"}) is None


def test_workers_that_were_not_heard_for_long_are_forgotten() -> None:
    choice = told(0.0)
    choice.told("b", 0.0, 61 * S)
    choice.sent("a", "1", 10.0, 61 * S)
    assert choice.under_way("a") == 0


@pytest.mark.parametrize("wait_ms", [float("nan"), float("inf"), -1.0])
def test_a_wait_that_can_not_be_says_only_that_the_worker_lives(wait_ms: float) -> None:
    choice = told(30.0)
    choice.told("a", wait_ms, SILENT_NS)
    assert choice.live("a", SILENT_NS + 1) and choice.answer_ms("a", 10.0, SILENT_NS) == pytest.approx(40.0)


def test_a_worker_too_slow_for_anything_does_not_look_idle_for_refusing_at_once() -> None:
    """Ten times as slow, never measured, and its queue is always empty."""
    choice = told(5.0, 0.0)
    served(choice, "a", 1.0)
    assert picks(choice, 100) == {"b": 100}
    for number in range(3):
        choice.sent("b", f"x{number}", 10.0, 0)
        choice.refused("b", f"x{number}", budget_ms=80.0, now_ns=0)
    assert choice.answer_ms("b", 10.0, 0) == pytest.approx(80.0)
    assert picks(choice, 100) == {"a": 100} and choice.under_way("b") == 0


def test_a_refusal_that_the_queue_explains_says_nothing_of_the_speed() -> None:
    choice = told(75.0)
    served(choice, "a", 1.0)
    choice.sent("a", "x", 10.0, 0)
    choice.refused("a", "x", budget_ms=80.0, now_ns=0)
    assert choice.answer_ms("a", 10.0, 0) == pytest.approx(85.0)
