"""Virtual time: order, waits, signals."""

from __future__ import annotations

from splitmesh.sim.engine import Engine, Process, Signal, Wait


def test_events_happen_in_order_of_time_and_of_being_set() -> None:
    engine, seen = Engine(), list[tuple[str, int]]()

    def note(name: str) -> None:
        seen.append((name, engine.now_ns))

    engine.at(30, lambda: note("c"))
    engine.at(10, lambda: note("a"))
    engine.at(30, lambda: note("d"))
    engine.at(20, lambda: engine.at(5, lambda: note("b")))
    engine.at(41, lambda: note("too late"))
    engine.run(40)
    assert seen == [("a", 10), ("b", 20), ("c", 30), ("d", 30)]
    assert engine.now_ns == 40


def test_a_process_goes_on_at_its_time_or_with_the_first_signal() -> None:
    engine, seen = Engine(), list[tuple[str, int]]()
    one: Signal[str] = Signal()
    two: Signal[str] = Signal()

    def process() -> Process:
        yield Wait(100, (one, two))
        seen.append((f"{one.value} {two.value}", engine.now_ns))
        yield Wait(80, (two,))
        seen.append(("timer", engine.now_ns))
        yield Wait(90, (one,))
        seen.append(("at once", engine.now_ns))
        yield Wait(300)
        seen.append(("end", engine.now_ns))

    engine.start(process())
    engine.at(50, lambda: one.fire("first"))
    engine.at(60, lambda: one.fire("second"))
    engine.at(200, lambda: two.fire("late"))
    engine.run(1000)
    assert seen == [("first None", 50), ("timer", 80), ("at once", 80), ("end", 300)]


def test_an_ended_wait_does_not_wake_the_next_one() -> None:
    engine, woken = Engine(), list[int]()
    signal: Signal[int] = Signal()

    def process() -> Process:
        yield Wait(100, (signal,))
        woken.append(engine.now_ns)
        yield Wait(500)
        woken.append(engine.now_ns)

    engine.start(process())
    engine.at(10, lambda: signal.fire(1))
    engine.run(1000)
    assert woken == [10, 500]


def test_a_signal_keeps_its_first_value_and_tells_those_who_come_late() -> None:
    signal, heard = Signal[int](), list[str]()
    signal.hear(lambda: heard.append("early"))
    signal.fire(1)
    signal.fire(2)
    signal.hear(lambda: heard.append("late"))
    assert (signal.value, heard) == (1, ["early", "late"])
