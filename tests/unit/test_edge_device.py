"""The edge's device: order, slowdown, cancellation, backlog. Real onnxruntime under it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from splitmesh.edge.device import Device, DeviceJob
from splitmesh.errors import InferenceError
from splitmesh.inference.session import Session, open_session


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    device = Device()
    yield device
    await asyncio.to_thread(device.close)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A model that takes some milliseconds: a chain of matrix products."""
    size, depth = 384, 6
    weight = np.eye(size, dtype=np.float32)
    nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(depth)]
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [size, size])],
        [helper.make_tensor_value_info(f"x{depth}", TensorProto.FLOAT, [size, size])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    path: Path = tmp_path_factory.mktemp("model") / "heavy.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return open_session(path)


async def test_runs_jobs_in_order_and_urgent_ones_first(device: Device) -> None:
    gate, started = threading.Event(), threading.Event()
    order: list[str] = []

    def blocking(job: DeviceJob[None]) -> None:
        started.set()
        gate.wait(10)
        order.append("first")

    first = device.submit(blocking, expected_ms=5)
    await asyncio.to_thread(started.wait, 10)
    later = [device.submit(lambda job, n=n: order.append(n), expected_ms=5) for n in ("second", "third")]
    urgent = device.submit(lambda job: order.append("urgent"), expected_ms=5, urgent=True)
    gate.set()
    await asyncio.gather(first.done, urgent.done, *(job.done for job in later))
    assert order == ["first", "urgent", "second", "third"]


async def test_backlog_counts_what_waits_and_what_runs(device: Device) -> None:
    gate, started = threading.Event(), threading.Event()

    def blocking(job: DeviceJob[None]) -> None:
        started.set()
        gate.wait(10)

    assert device.backlog_ms(time.monotonic_ns()) == 0
    running = device.submit(blocking, expected_ms=100)
    await asyncio.to_thread(started.wait, 10)
    waiting = device.submit(lambda job: None, expected_ms=40)
    urgent = device.submit(lambda job: None, expected_ms=7, urgent=True)
    assert device.backlog_ms(running.started_ns) == pytest.approx(147)
    assert device.backlog_ms(running.started_ns, urgent=True) == pytest.approx(107)
    assert device.backlog_ms(running.started_ns + 60_000_000) == pytest.approx(87)
    waiting.cancel()
    assert device.backlog_ms(running.started_ns) == pytest.approx(107)
    gate.set()
    await asyncio.gather(running.done, urgent.done)


async def test_a_cancelled_job_that_waits_never_runs(device: Device) -> None:
    gate = threading.Event()
    ran: list[str] = []
    first = device.submit(lambda job: gate.wait(10), expected_ms=1)
    doomed = device.submit(lambda job: ran.append("doomed"), expected_ms=1)
    last = device.submit(lambda job: ran.append("last"), expected_ms=1)
    doomed.cancel()
    gate.set()
    await asyncio.gather(first.done, last.done)
    assert ran == ["last"]
    assert doomed.done.cancelled()


async def test_an_error_reaches_whoever_awaits_the_job_and_only_them(device: Device) -> None:
    def failing(job: DeviceJob[None]) -> None:
        raise InferenceError("output boxes of head.onnx holds NaN")

    failed = device.submit(failing, expected_ms=1)
    fine = device.submit(lambda job: 7, expected_ms=1)
    with pytest.raises(InferenceError, match="NaN"):
        await failed.done
    assert await fine.done == 7


async def test_slowdown_holds_the_device_without_using_cpu(heavy: Session) -> None:
    device = Device(slowdown=8)
    x = {"x0": np.ones((384, 384), np.float32)}
    cpu_ns: list[int] = []

    def work(job: DeviceJob[None]) -> None:
        before = time.thread_time_ns()
        job.run_model(heavy, x)
        cpu_ns.append(time.thread_time_ns() - before)

    try:
        for _ in range(5):
            job = device.submit(work, expected_ms=1)
            await job.done
            held_ms = (job.ended_ns - job.started_ns) / 1e6
            assert job.busy_ms == pytest.approx(held_ms, rel=0.2)
            # The run itself is CPU of this thread; the other 7/8 of the time held are not.
            assert cpu_ns[-1] / 1e6 < 0.45 * held_ms
    finally:
        await asyncio.to_thread(device.close)


async def test_cancelling_cuts_the_emulated_part_short(heavy: Session) -> None:
    device = Device(slowdown=2_000)
    started = threading.Event()

    def work(job: DeviceJob[None]) -> None:
        started.set()
        job.run_model(heavy, {"x0": np.ones((384, 384), np.float32)})

    try:
        job = device.submit(work, expected_ms=1)
        await asyncio.to_thread(started.wait, 10)
        next_job = device.submit(lambda job: "next", expected_ms=1)
        job.cancel()
        assert await asyncio.wait_for(next_job.done, 5) == "next"
    finally:
        await asyncio.to_thread(device.close)


async def test_close_drops_what_waits() -> None:
    device = Device()
    gate, started = threading.Event(), threading.Event()

    def blocking(job: DeviceJob[None]) -> None:
        started.set()
        gate.wait(10)

    running = device.submit(blocking, expected_ms=1)
    await asyncio.to_thread(started.wait, 10)
    waiting = device.submit(lambda job: None, expected_ms=1)
    closing = asyncio.create_task(asyncio.to_thread(device.close))
    await asyncio.wait({waiting.done}, timeout=5)
    assert waiting.done.cancelled()
    gate.set()
    await closing
    await running.done
