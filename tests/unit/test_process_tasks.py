"""The gauge of a process's tasks follows the loop that it was made in, whichever thread asks."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from splitmesh.telemetry.metrics import Metrics


def tasks(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("splitmesh_process_tasks")


@pytest.mark.parametrize("role", ["edge", "cloud"])
async def test_tasks_of_the_loop_are_counted(role: str) -> None:
    metrics = Metrics()
    getattr(metrics, role)
    before = await asyncio.to_thread(tasks, metrics.registry)
    assert before is not None and before >= 1
    waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(3)]
    assert await asyncio.to_thread(tasks, metrics.registry) == before + 3
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await asyncio.to_thread(tasks, metrics.registry) == before


def test_without_a_loop_there_are_none() -> None:
    metrics = Metrics()
    assert metrics.edge is not None
    assert tasks(metrics.registry) == 0
