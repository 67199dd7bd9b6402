"""What every test gets: the shared data or a skip, and a failure when it leaves a task or a thread behind."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `splitmesh` itself does; read when numpy is loaded

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # how long an example takes says what else runs here
hypothesis.settings.load_profile("untimed")

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"
GRACE_S = 5.0
"""How long what a test stopped may take to end before it counts as leaked."""


OF_PROCESSES = ("integration", "chaos", "e2e")
"""Folders whose tests wait for other processes, which the machine may keep waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of processes have a second try; the summary lists it as RERUN, with what failed."""
    for item in items:
        if any(folder in item.path.relative_to(PROJECT).parts for folder in OF_PROCESSES):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def project() -> Path:
    """The repository's root."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of models, clips and traces beside the repository; the test is skipped where it is absent."""
    if not (SHARED / "models").is_dir():
        pytest.skip("needs the data folder ../shared (models, media, traces) beside the repository")
    return SHARED


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves asyncio tasks or non-daemon threads behind.

    As an autouse fixture it is set up before the test's own fixtures and so looks after they are torn down.
    """
    before = set(threading.enumerate())
    function = getattr(request, "function", None)
    if inspect.iscoroutinefunction(function):
        request.getfixturevalue("_no_leaked_tasks")
    yield
    if left := leaked_threads(before, GRACE_S):
        pytest.fail(f"leaked threads: {', '.join(thread.name for thread in left)}", pytrace=False)


@pytest.fixture
async def _no_leaked_tasks() -> AsyncIterator[None]:
    yield
    if left := await leaked_tasks(GRACE_S):
        pytest.fail("leaked tasks:\n  " + "\n  ".join(map(repr, left)), pytrace=False)


def leaked_threads(before: set[threading.Thread], grace_s: float) -> list[threading.Thread]:
    """Non-daemon threads that were not there `before` and don't end within `grace_s`."""
    until = time.monotonic() + grace_s
    fresh = [t for t in threading.enumerate() if t not in before and not t.daemon and not _waits_in_executor(t)]
    for thread in fresh:
        thread.join(max(0.0, until - time.monotonic()))
    return [thread for thread in fresh if thread.is_alive()]


async def leaked_tasks(grace_s: float) -> list[asyncio.Task[object]]:
    """Tasks of this loop that don't end by themselves within `grace_s`; they are cancelled."""
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if left:
        await asyncio.wait(left, timeout=grace_s)
    left = [task for task in left if not task.done()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    return left


def _waits_in_executor(thread: threading.Thread) -> bool:
    """The default executor of an event loop ends with the loop, which may outlive one test."""
    return thread.name.startswith("asyncio_")
