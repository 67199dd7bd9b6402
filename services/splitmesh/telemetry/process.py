"""Owns the metrics that every process has, whatever its role."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Gauge


def process_tasks(registry: CollectorRegistry) -> None:
    """Count the tasks of the loop that this is called in, whenever somebody looks; 0 outside of one."""
    tasks = Gauge("splitmesh_process_tasks", "asyncio tasks that have not ended", registry=registry)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    tasks.set_function(lambda: len(asyncio.all_tasks(loop)))


def spans_dropped(registry: CollectorRegistry) -> Gauge:
    """Whoever makes the process's `Tracing` gives it that one's `spans_dropped` as its function."""
    name, text = "splitmesh_spans_dropped_spans", "Spans lost to a slow or full disk or collector"
    return Gauge(name, text, registry=registry)
