"""Which workers get nothing for a while, for how long, and how they come back."""

from __future__ import annotations

import random

import pytest

from splitmesh.schedule.choice import Basis, WorkerChoice
from splitmesh.schedule.ejection import Ejection, EjectionRules

MS = 1_000_000
S = 1000 * MS
KEYS = map(str, range(10**6))


def answers(ejection: Ejection[str], worker: str, slowness: float = 1.0, times: int = 1, now_ns: int = 0) -> None:
    for _ in range(times):
        key = next(KEYS)
        ejection.sent(worker, key, now_ns)
        ejection.answered(worker, key, slowness, now_ns)


def fails(ejection: Ejection[str], worker: str, times: int = 1, now_ns: int = 0, pool: int = 4) -> list[bool]:
    made = []
    for _ in range(times):
        key = next(KEYS)
        ejection.sent(worker, key, now_ns)
        made.append(ejection.failed(worker, key, pool, now_ns))
    return made


def test_failures_in_a_row_eject_and_an_answer_breaks_the_row() -> None:
    ejection: Ejection[str] = Ejection()
    assert fails(ejection, "a", 2) == [False, False]
    answers(ejection, "a")
    assert fails(ejection, "a", 3) == [False, False, True]
    assert ejection.out("a") and not ejection.out("b") and ejection.ejections == 1


def test_one_request_is_counted_once() -> None:
    """Overdue at its deadline, and given up for good later."""
    ejection: Ejection[str] = Ejection()
    assert [ejection.failed("a", "same", 2, 0) for _ in range(5)] == [False] * 5


def test_an_answer_after_the_deadline_does_not_make_good_its_own_miss() -> None:
    ejection: Ejection[str] = Ejection()
    for key in "123":
        ejection.failed("a", key, 2, 0)
        ejection.answered("a", key, 1.0, 0)
    assert ejection.out("a")


def test_who_is_far_slower_than_the_others_median_is_ejected_and_a_slow_pool_is_not() -> None:
    ejection: Ejection[str] = Ejection()
    for worker in "abc":
        answers(ejection, worker, 20.0, 8)  # the link is slow: for all of them
    assert not any(map(ejection.out, "abc"))
    answers(ejection, "c", 90.0, 30)
    assert not ejection.out("c")  # 4.5 times
    answers(ejection, "c", 140.0, 30)
    assert ejection.out("c") and not ejection.out("a")


def test_a_share_of_the_pool_stays_whatever_fails() -> None:
    ejection: Ejection[str] = Ejection()
    for worker in "abcd":
        fails(ejection, worker, 5)
    assert [ejection.out(worker) for worker in "abcd"] == [True, True, False, False]
    pair: Ejection[str] = Ejection()
    assert fails(pair, "a", 3, pool=2)[-1] and not any(fails(pair, "b", 9, pool=2))
    assert not any(fails(Ejection(), "a", 9, pool=1))  # the last one is never out


def test_one_trial_at_a_time_after_its_time_brings_it_back() -> None:
    ejection: Ejection[str] = Ejection(EjectionRules(first_ns=S))
    fails(ejection, "a", 3)
    assert not ejection.due("a", S - 1) and ejection.due("a", S)
    ejection.sent("a", "trial", S)
    assert not ejection.due("a", S) and ejection.out("a")
    ejection.answered("a", "old", 1.0, S)  # was under way when it was ejected
    assert ejection.out("a")
    ejection.answered("a", "trial", 1.0, S)
    assert not ejection.out("a") and not ejection.due("a", 9 * S)


def test_each_failed_trial_doubles_the_time_up_to_the_longest_and_a_good_while_forgives() -> None:
    rules = EjectionRules(first_ns=S, longest_ns=4 * S)
    ejection: Ejection[str] = Ejection(rules)
    fails(ejection, "a", 3)
    now_ns, lasted = 0, []
    for _ in range(4):
        until_ns = next(at for at in range(now_ns, now_ns + 10 * S, S // 4) if ejection.due("a", at))
        lasted.append((until_ns - now_ns) // S)
        fails(ejection, "a", now_ns=until_ns)
        now_ns = until_ns
    assert lasted == [1, 2, 4, 4]
    answers(ejection, "a", now_ns=now_ns + 4 * S)
    assert not ejection.out("a")
    later_ns = now_ns + 100 * S
    fails(ejection, "a", 3, now_ns=later_ns)
    assert ejection.due("a", later_ns + S)


def test_a_trial_that_tells_nothing_makes_room_for_another() -> None:
    ejection: Ejection[str] = Ejection()
    fails(ejection, "a", 3)
    ejection.sent("a", "trial", 2 * S)
    ejection.undecided("a", "trial")
    assert ejection.out("a") and ejection.due("a", 2 * S)


def test_a_trial_as_slow_as_before_is_no_return() -> None:
    ejection: Ejection[str] = Ejection()
    answers(ejection, "b", 1.0, 8)
    answers(ejection, "a", 50.0, 8)
    assert ejection.out("a")
    answers(ejection, "a", 50.0, now_ns=2 * S)
    assert ejection.out("a") and not ejection.due("a", 3 * S)
    answers(ejection, "a", 1.0, now_ns=5 * S)
    assert not ejection.out("a")


# -- within the choice ----------------------------------------------------------------------------------------------


def pool(*workers: str, now_ns: int = 0) -> tuple[WorkerChoice[str], Ejection[str]]:
    ejection: Ejection[str] = Ejection()
    choice = WorkerChoice(ejection=ejection)
    for worker in workers:
        choice.told(worker, 0.0, now_ns)
    return choice, ejection


def sends_and_fails(choice: WorkerChoice[str], worker: str, times: int = 3) -> None:
    for _ in range(times):
        key = next(KEYS)
        choice.sent(worker, key, 10.0, 0)
        choice.failed(worker, key, 0)


def test_an_ejected_worker_gets_nothing_but_its_trial() -> None:
    choice, _ = pool("a", "b", "c")
    sends_and_fails(choice, "a")
    lots = random.Random(0)
    assert {choice.pick(10.0, now_ns=0, draw=lots.random()).worker for _ in range(50)} == {"b", "c"}  # type: ignore[union-attr]
    for worker in "abc":
        choice.told(worker, 0.0, S)
    key_of_a_stream = choice.pick(10.0, now_ns=S, draw=0.0, trial=False)
    assert key_of_a_stream is not None and key_of_a_stream.worker != "a"
    trial = choice.pick(10.0, now_ns=S, draw=0.0)
    assert trial is not None and (trial.worker, trial.basis) == ("a", Basis.TRIAL)
    choice.sent("a", "trial", 10.0, S)
    assert choice.pick(10.0, now_ns=S, draw=0.0).worker != "a"  # type: ignore[union-attr]
    choice.answered("a", "trial", measured_ms=10.0, slowness=1.0, now_ns=S)
    assert "a" in {choice.pick(10.0, now_ns=S, draw=lots.random()).worker for _ in range(50)}  # type: ignore[union-attr]


def test_an_ejected_worker_is_better_than_none_and_a_silent_one_gets_no_trial() -> None:
    choice, _ = pool("a", "b")
    sends_and_fails(choice, "a")
    choice.told("a", 0.0, S)
    picked = choice.pick(10.0, now_ns=S, draw=0.0, trial=False)  # b was not heard for a second
    assert picked is not None and picked.worker == "a"
    choice.told("b", 0.0, 3 * S)
    assert choice.pick(10.0, now_ns=3 * S, draw=0.0).worker == "b"  # type: ignore[union-attr]


@pytest.mark.parametrize("overtaken", [True, False])
def test_a_missed_deadline_is_the_workers_fault_only_if_another_answered_what_was_sent_later(overtaken: bool) -> None:
    choice, ejection = pool("a", "b")
    for number in range(3):
        choice.sent("a", f"a{number}", 10.0, number)
    choice.sent("b", "b0", 10.0, 10)
    if overtaken:
        choice.answered("b", "b0", measured_ms=10.0, slowness=1.0, now_ns=50 * MS)
    put_out = [choice.overdue("a", f"a{number}", 100 * MS) for number in range(3)]
    assert put_out == [False, False, overtaken] and ejection.out("a") == overtaken
    assert choice.under_way("a") == 3  # still there


def test_who_is_gone_and_comes_back_begins_anew() -> None:
    choice, ejection = pool("a", "b")
    sends_and_fails(choice, "a")
    choice.gone("a")
    choice.told("a", 0.0, 0)
    assert not ejection.out("a") and choice.live("a", 0)
