"""Many Analyze calls at once, each at its own pace: every frame accounted for, the gateway's memory watched."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import psutil

from splitmesh.client.channel import methods_of
from splitmesh.v1 import gateway_pb2 as pb

_CONNECTIONS = 20
_MIB = 2**20
_LATE_MS = 50.0
"""A result may come so much after its frame's budget: it travels."""


@dataclass(slots=True)
class Tally:
    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    answered_ms: list[float] = field(default_factory=list)
    beyond_budget: int = 0


async def offer_streams(
    address: str,
    pid: int,
    jpegs: list[bytes],
    *,
    streams: int,
    fps: float,
    seconds: float,
    budget_ms: float,
) -> dict[str, Any]:
    """What came of it. pid: of the gateway."""
    tally = Tally()
    channels = [
        grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        for _ in range(min(_CONNECTIONS, streams))
    ]
    methods = [methods_of(channel) for channel in channels]
    rss_mib: list[float] = []
    watching = asyncio.create_task(_watch(pid, rss_mib))
    await asyncio.gather(
        *(
            _stream(methods[n % len(methods)], jpegs, tally, n / streams, fps, seconds, budget_ms)
            for n in range(streams)
        )
    )
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    for channel in channels:
        await channel.close()
    third = max(1, len(rss_mib) // 3)
    answered = sorted(tally.answered_ms)
    return {
        "streams": streams,
        "fps": fps,
        "seconds": seconds,
        "budget_ms": budget_ms,
        "sent": tally.sent,
        "outcomes": dict(tally.outcomes),
        "unaccounted": tally.sent - tally.outcomes.total(),
        "beyond_budget": tally.beyond_budget,
        "answered_p50_ms": round(answered[len(answered) // 2], 1) if answered else None,
        "rss_second_third_mib": round(max(rss_mib[third : 2 * third], default=0.0), 1),
        "rss_last_third_mib": round(max(rss_mib[2 * third :], default=0.0), 1),
        "rss_mib": [round(each, 1) for each in rss_mib],
    }


async def _stream(
    methods: dict[str, Any],
    jpegs: list[bytes],
    tally: Tally,
    phase: float,
    fps: float,
    seconds: float,
    budget_ms: float,
) -> None:
    call, loop = methods["Analyze"](), asyncio.get_running_loop()
    start_s = loop.time() + phase / fps

    async def send() -> None:
        for seq in itertools.count():
            due_s = start_s + seq / fps
            if due_s > start_s + seconds:
                break
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            await call.write(pb.Frame(seq=seq, encoded=jpegs[seq % len(jpegs)], budget_ms=budget_ms))
            tally.sent += 1
        await call.done_writing()

    sending = asyncio.create_task(send())
    while (result := await call.read()) is not grpc.aio.EOF:
        if result.WhichOneof("outcome") == "answer":
            tally.outcomes["answered"] += 1
            tally.answered_ms.append(result.total_ms)
        else:
            tally.outcomes[pb.FrameErrorCode.Name(result.error.code).removeprefix("FRAME_ERROR_CODE_").lower()] += 1
        tally.beyond_budget += result.total_ms > budget_ms + _LATE_MS
    await sending


async def _watch(pid: int, rss_mib: list[float]) -> None:
    process = psutil.Process(pid)
    while True:
        rss_mib.append(process.memory_info().rss / _MIB)
        await asyncio.sleep(0.5)
