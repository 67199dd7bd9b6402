"""Many callers at once: back-pressure on who reads slowly and on nobody else, and every frame accounted for."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter

import grpc
import numpy as np
import simplejpeg
from cloud_rig import PICTURE, SlowHosted, until, worker_on
from gateway_rig import Caller, caller_of, counted, gateway_on

from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.plan.bundle.read import Bundle
from splitmesh.v1 import gateway_pb2 as pb

JPEG = simplejpeg.encode_jpeg(np.ascontiguousarray(PICTURE), 90, "RGB", "444")
IN_FLIGHT = "splitmesh_gateway_in_flight_frames"


async def test_a_slow_reader_is_held_back_and_nobody_else(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted
) -> None:
    most = 20_000
    sent = 0
    enough = asyncio.Event()

    async def send(call: object) -> None:
        nonlocal sent
        while sent < most and not enough.is_set():
            await call.write(pb.Frame(seq=sent, encoded=JPEG, budget_ms=30_000))
            sent += 1
        await call.done_writing()

    async def stalled() -> None:
        """Returns once nothing was sent for twenty answers to another caller."""
        while True:
            before = sent
            for _ in range(20):
                result = await quick.infer(encoded=JPEG, budget_ms=30_000)
                assert result.WhichOneof("outcome") == "answer", result
            if sent == before:
                return

    async with (
        worker_on(broker, hosted),
        gateway_on(broker, bundle, frames_in_flight=4) as gateway,
        caller_of(gateway, window_bytes=65_536) as slow,
        caller_of(gateway) as quick,
    ):
        call = slow.analyze()
        sending = asyncio.create_task(send(call))
        await asyncio.wait_for(stalled(), 60)
        assert 0 < sent < most, "it was never held back"
        assert counted(gateway, IN_FLIGHT) <= 4
        answered = counted(gateway, "splitmesh_gateway_frames_total", tenant="default", outcome="answered")
        assert answered < most
        enough.set()
        read = [result.seq async for result in call]
        await sending
    assert sorted(read) == list(range(sent))


async def test_two_hundred_streams_at_once_lose_nothing(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted
) -> None:
    streams, frames, period_s, peak = 200, 10, 0.2, 0

    async def stream(caller: Caller, number: int) -> list[pb.Result]:
        nonlocal peak
        call, loop = caller.analyze(), asyncio.get_running_loop()
        start_s = loop.time() + period_s * number / streams

        async def send() -> None:
            for seq in range(frames):
                await asyncio.sleep(max(0.0, start_s + period_s * seq - loop.time()))  # five a second, as a camera
                await call.write(pb.Frame(seq=seq, encoded=JPEG, budget_ms=1000))
            await call.done_writing()

        sending = asyncio.create_task(send())
        results = []
        async for result in call:
            results.append(result)
            peak = max(peak, int(counted(gateway, IN_FLIGHT)))
        await sending
        return results

    async with worker_on(broker, hosted, queue_limit=16), gateway_on(broker, bundle, total_in_flight=64) as gateway:
        async with caller_of(gateway) as caller:
            taken = await asyncio.gather(*(stream(caller, number) for number in range(streams)))
        outcomes = Counter(
            "answered" if r.WhichOneof("outcome") == "answer" else pb.FrameErrorCode.Name(r.error.code)[17:].lower()
            for results in taken
            for r in results
        )
        assert all(sorted(r.seq for r in results) == list(range(frames)) for results in taken)
        assert sum(outcomes.values()) == streams * frames
        assert outcomes["answered"] > 0 and set(outcomes) <= {"answered", "overloaded", "expired"}, outcomes
        assert peak <= 65  # the one too many is refused while it is counted
        for outcome, count in outcomes.items():
            told = counted(gateway, "splitmesh_gateway_frames_total", tenant="default", outcome=outcome)
            assert told == count


async def test_more_frames_than_there_is_room_for_are_refused_at_once(broker: EmbeddedServer, bundle: Bundle) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow), gateway_on(broker, bundle, total_in_flight=3) as gateway:
        slow.gate.clear()
        async with caller_of(gateway) as caller:
            call = caller.analyze()
            for seq in range(3):
                await call.write(pb.Frame(seq=seq, encoded=JPEG, budget_ms=30_000))
            await until(lambda: counted(gateway, IN_FLIGHT) == 3)
            refused = await caller.infer(encoded=JPEG, budget_ms=30_000)
            slow.gate.set()
            await call.done_writing()
            answered = [result.WhichOneof("outcome") async for result in call]
    assert refused.error.code == pb.FRAME_ERROR_CODE_OVERLOADED and "3 frames" in refused.error.detail
    assert answered == ["answer"] * 3


async def test_the_deadline_of_a_call_is_that_of_its_frame(broker: EmbeddedServer, bundle: Bundle) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow) as worker, gateway_on(broker, bundle) as gateway:
        slow.gate.clear()
        async with caller_of(gateway) as caller:
            blocking = asyncio.create_task(caller.infer(encoded=JPEG, budget_ms=30_000))
            await until(lambda: slow.entered > 0 and worker.status().queue_depth == 0)
            try:
                late = await caller.infer(encoded=JPEG, budget_ms=30_000, timeout=0.3)
                assert late.error.code in (pb.FRAME_ERROR_CODE_EXPIRED, pb.FRAME_ERROR_CODE_OVERLOADED)
            except grpc.aio.AioRpcError as exc:
                assert exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            slow.gate.set()
            assert (await blocking).WhichOneof("outcome") == "answer"
        await until(lambda: counted(gateway, IN_FLIGHT) == 0)


HALF_DEAD = """
import sys, grpc
from splitmesh.v1 import gateway_pb2 as pb

with grpc.insecure_channel(sys.argv[1]) as channel:
    call = channel.stream_stream(
        "/splitmesh.v1.GatewayService/Analyze",
        request_serializer=pb.Frame.SerializeToString,
        response_deserializer=pb.Result.FromString,
    )
    frames = iter(lambda: sys.stdin.readline() and None, "")
    list(call(frame for frame in frames if frame))
"""


async def test_a_client_that_stands_still_is_let_go(broker: EmbeddedServer, bundle: Bundle) -> None:
    async with gateway_on(broker, bundle, keepalive_s=1) as gateway:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HALF_DEAD, f"127.0.0.1:{gateway.grpc_port}", stdin=asyncio.subprocess.PIPE
        )
        try:
            await until(lambda: gateway.calls == 1)
            child.send_signal(signal.SIGSTOP)  # its kernel still acknowledges; nothing else answers
            await until(lambda: gateway.calls == 0, 30)
        finally:
            child.kill()
            await child.wait()


async def test_calls_beyond_the_limit_are_refused(broker: EmbeddedServer, bundle: Bundle, hosted: Hosted) -> None:
    async with worker_on(broker, hosted), gateway_on(broker, bundle, max_calls=1) as gateway:
        async with caller_of(gateway) as caller:
            first = caller.analyze()
            await first.write(pb.Frame(seq=1, encoded=JPEG, budget_ms=5000))
            assert (await first.read()).WhichOneof("outcome") == "answer"
            try:
                await caller.infer(encoded=JPEG)
                raise AssertionError("a second call was let in")
            except grpc.aio.AioRpcError as exc:
                assert exc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await first.done_writing()
            assert await first.read() is grpc.aio.EOF
            assert (await caller.infer(encoded=JPEG, budget_ms=5000)).WhichOneof("outcome") == "answer"
        assert counted(gateway, "splitmesh_gateway_refusals_total", door="grpc", reason="crowded") == 1
