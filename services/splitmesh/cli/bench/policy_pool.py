"""Owns the processes that simulated runs are spread over. What they compute does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from splitmesh.errors import MeshError
from splitmesh.sim.spread import Result, Spread, Task, in_turn


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread_over(jobs: int) -> Spread:
    """jobs: processes, from 1; with 1 everything is done here. They are started afresh, so that nothing of this
    process is in them but what they are handed, and they end with it."""
    if jobs == 1:
        return in_turn

    def spread(work: Callable[[Task], Result], tasks: Sequence[Task], told: Callable[[Task], None]) -> list[Result]:
        """Raises MeshError if a process is killed."""
        processes = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(jobs, len(tasks)), processes, _equip, (work,)) as pool:
            asked = {pool.submit(_do, task): index for index, task in enumerate(tasks)}
            results: dict[int, Result] = {}
            try:
                for future in as_completed(asked):
                    results[asked[future]] = future.result()
                    told(tasks[asked[future]])
            except BrokenProcessPool as exc:
                raise MeshError("a simulating process was killed", advice="use fewer with --jobs") from exc
            except BaseException:  # an interrupt too: what is under way may take half a minute
                for process in processes.active_children():
                    process.terminate()
                raise
        return [results[index] for index in range(len(tasks))]

    return spread


_work: Callable[[Any], Any] | None = None
"""Of this process, once it is equipped."""


def _equip(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # one traceback, of the process that was asked, is enough
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _do(task: Any) -> Any:
    if _work is None:
        raise RuntimeError("a process was given a task before its work")
    try:
        return _work(task)
    except MeshError as exc:  # those with facts do not survive being pickled
        raise MeshError(exc.message, advice=exc.advice) from None
