"""What heartbeats, replies and their lack make of a worker, and what they count as."""

from __future__ import annotations

import pytest

from splitmesh.bus.base import Message
from splitmesh.edge.peers import QUIET_NS, SILENT_NS, Peers
from splitmesh.frames.answer import Answer
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World
from splitmesh.telemetry.metrics import PoolEvent
from splitmesh.wire.messages import Heartbeat, HostedModel, InferReply, Nack, NackCode, WorkerTimes

SHA = "0" * 64
TRACK, LOCAL = OperatingPoint("track", Place.TRACK, 1.0), OperatingPoint("local", Place.LOCAL, 1.0)
POINT = OperatingPoint("frame/jpeg-85", Place.FRAME, 0.9, codec="jpeg", level=85, decode_ms=1.0, cloud_ms=9.0)


class Rig:
    def __init__(self) -> None:
        self.gone: list[str] = []
        self.peers = Peers(World([TRACK, LOCAL, POINT], track_kappa=1.0), ("m", SHA), draw=lambda: 0.0)
        self.peers.gone = self.gone.append
        self._keys = map(str, range(1000))

    async def beats(self, *workers: str, wait_ms: float = 0.0, sha: str = SHA, draining: bool = False) -> None:
        for worker in workers:
            models = (HostedModel("m", sha),)
            beat = Heartbeat(worker, 1, models, predicted_wait_us=round(wait_ms * 1e3), draining=draining)
            await self.peers.hear(Message("load", beat.encode()))

    @property
    def now_ns(self) -> int:
        return max(self.peers._seen_ns.values())

    def replies(self, worker: str, outcome: Answer | Nack, *, service_ms: float = 9.0, wait_ms: float = 0.0) -> None:
        key = next(self._keys)
        self.peers.choice.sent(worker, key, 10.0, self.now_ns)
        times = WorkerTimes(decode_us=1000, service_us=round(service_ms * 1e3))
        reply = InferReply(f"e.r.{key}", worker, outcome, times, round(wait_ms * 1e3))
        self.peers.replied(key, reply, 1.0, 80.0, self.now_ns)

    def chosen(self) -> str:
        choice = self.peers.choose(POINT, self.now_ns)
        return "" if choice is None else choice.worker


async def test_only_workers_of_this_plan_are_chosen() -> None:
    rig = Rig()
    await rig.beats("other", sha="1" * 64)
    assert rig.peers.choose(POINT, 0) is None
    await rig.beats("w-1")
    assert rig.chosen() == "w-1"


async def test_the_wait_that_heartbeats_and_replies_tell_decides() -> None:
    rig = Rig()
    await rig.beats("w-1", wait_ms=500.0)
    await rig.beats("w-2", wait_ms=400.0)
    assert rig.chosen() == "w-2"
    rig.replies("w-2", Answer.empty(), wait_ms=900.0)
    assert rig.chosen() == "w-1"


async def test_the_slower_of_two_is_known_from_its_replies() -> None:
    rig = Rig()
    await rig.beats("w-1", "w-2")
    rig.replies("w-1", Answer.empty(), service_ms=29.0)
    rig.replies("w-2", Answer.empty(), service_ms=9.0)
    assert rig.chosen() == "w-2"


@pytest.mark.parametrize("code", list(NackCode), ids=lambda code: code.label)
async def test_what_a_refusal_says_of_its_worker(code: NackCode) -> None:
    rig = Rig()
    await rig.beats("w-1", "w-2")
    before_ms = rig.peers.choice.answer_ms("w-1", 10.0, rig.now_ns)
    for _ in range(3):
        if rig.peers.choice.live("w-1", rig.now_ns):
            rig.replies("w-1", Nack(code))
    assert rig.gone == (["w-1"] if code is NackCode.DRAINING else [])
    faulty = code in (NackCode.UNKNOWN_MODEL, NackCode.INFERENCE_FAILED)
    assert rig.peers.counts[PoolEvent.EJECTED] == faulty
    assert rig.peers.choice.live("w-1", rig.now_ns) == (not faulty and code is not NackCode.DRAINING)
    if code is NackCode.OVERLOADED:
        assert rig.peers.choice.answer_ms("w-1", 10.0, rig.now_ns) > before_ms
    assert rig.peers.choice.under_way("w-1") == 0


async def test_fewer_heartbeats_need_to_be_missed_while_others_are_heard() -> None:
    rig = Rig()
    await rig.beats("w-1")
    seen_ns = rig.now_ns
    assert not rig.peers.silent("w-1", seen_ns + QUIET_NS + 1)  # the link may stall: nobody is heard
    assert rig.peers.silent("w-1", seen_ns + SILENT_NS + 1)
    await rig.beats("w-2")
    rig.peers._seen_ns["w-2"] = seen_ns + QUIET_NS
    assert rig.peers.silent("w-1", seen_ns + QUIET_NS + 1)
    assert not rig.peers.silent("w-2", seen_ns + QUIET_NS + 1)


async def test_who_drains_is_not_chosen_for_its_last_replies() -> None:
    rig = Rig()
    await rig.beats("w-1", "w-2")
    await rig.beats("w-1", draining=True)
    rig.replies("w-1", Answer.empty())
    assert rig.chosen() == "w-2" and rig.gone == ["w-1"]


async def test_a_reply_from_the_queue_group_of_a_worker_never_heard_is_harmless() -> None:
    rig = Rig()
    await rig.beats("w-1")
    rig.replies("w-9", Answer.empty())
    assert rig.chosen() == "w-1"
