"""A worker of several tenants on a real nats-server: what one asks, holds or floods is never another's affair."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from cloud_rig import MODEL, SlowHosted, ask, payload_for, refused, until, worker_on
from stream_rig import PICTURES, features

from splitmesh.bus.base import Bus, Message
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.intra import encode_compact
from splitmesh.errors import NoResponders
from splitmesh.frames.answer import Answer
from splitmesh.media.h264 import H264Encoder
from splitmesh.plan.bundle.read import Bundle
from splitmesh.schedule.tenants import Tenant
from splitmesh.wire import subjects
from splitmesh.wire.messages import Cancel, Heartbeat, InferReply, Nack, NackCode, TableReply
from splitmesh.wire.requests import StreamRequest, TableOffer

TWO = (Tenant("red"), Tenant("blue"))
MS = 1_000_000


def whole(tenant: str) -> str:
    return subjects.infer(tenant, MODEL, "")


async def test_the_same_frame_id_in_two_tenants_is_two_frames(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    """Neither is a duplicate of the other, and a cancellation ends its own tenant's alone."""
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow, tenants=TWO) as worker:
        warm = slow.entered
        slow.gate.clear()
        running = asyncio.create_task(ask(edge, bundle, "e.r.0", subject=whole("red")))
        await until(lambda: slow.entered == warm + 1)
        red, blue = (
            asyncio.create_task(ask(edge, bundle, "e.r.1", subject=whole(tenant))) for tenant in ("red", "blue")
        )
        await until(lambda: worker.status().queue_depth == 2)
        again = refused(await ask(edge, bundle, "e.r.1", subject=whole("blue")))
        assert again.code is NackCode.BAD_REQUEST and "in work already" in again.detail
        for frame in ("e.r.1", "e.r.0"):
            await edge.publish(subjects.cancel("blue"), Cancel(frame).encode())
        assert refused(await blue).code is NackCode.CANCELLED
        slow.gate.set()
        assert isinstance((await running).outcome, Answer) and isinstance((await red).outcome, Answer)
        told = worker.status()
        assert {name: row["served"] for name, row in told.tenants.items()} == {"red": 2, "blue": 0}
        assert told.tenants["blue"]["refused"] == 2 and told.tenants["red"]["refused"] == 0
        assert told.served == 2 and told.nacked == {"bad_request": 1, "cancelled": 1}


async def ask_slim(edge: Bus, tenant: str, stream: int, seq: int, payload: bytes) -> InferReply:
    raw = StreamRequest(stream, seq, payload, 5_000_000).encode()
    return InferReply.decode((await edge.request(subjects.worker(tenant, "w-1"), raw, timeout_s=20)).payload)


async def test_a_stream_number_means_another_stream_in_each_tenant(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    size = (bundle.manifest.height, bundle.manifest.width)
    async with worker_on(broker, hosted, tenants=TWO) as worker:
        encoder = H264Encoder(size, level=23)
        key, delta = (encoder.encode(picture).payload for picture in PICTURES[:2])
        encoder.close()
        opened = await ask(edge, bundle, "e.r.1", payload=key, stream=7, subject=whole("red"))
        assert isinstance(opened.outcome, Answer)
        # blue has no stream 7: red's is neither found nor named as being in use
        assert refused(await ask_slim(edge, "blue", 7, 2, delta)).code is NackCode.NEED_KEYFRAME
        other = await ask(edge, bundle, "other.r.1", edge_id="other", payload=key, stream=7, subject=whole("blue"))
        assert isinstance(other.outcome, Answer)
        for tenant in ("red", "blue"):
            assert isinstance((await ask_slim(edge, tenant, 7, 2, delta)).outcome, Answer)
        assert [row["streams"] for row in worker.status().tenants.values()] == [1, 1]


async def test_a_table_that_one_tenant_sent_decodes_nothing_of_anothers(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    cut = bundle.cuts[0].name
    tensors = features(bundle, cut)
    table = fit_table(tensors)
    payload = encode_compact({name: each[:1] for name, each in tensors.items()}, table=table, level=60)
    async with worker_on(broker, hosted, tenants=TWO):
        offer = TableOffer("e", MODEL, bundle.sha256, cut, table.to_bytes()).encode()
        held = await edge.request(subjects.table("red", "w-1"), offer, timeout_s=20)
        assert TableReply.decode(held.payload).nack is None
        red, blue = [
            await ask(edge, bundle, cut=cut, payload=payload, subject=subjects.infer(tenant, MODEL, cut))
            for tenant in ("red", "blue")
        ]
        assert isinstance(red.outcome, Answer)
        assert refused(blue).code is NackCode.NEED_TABLE


async def test_every_tenant_hears_its_own_heartbeats_and_the_last_one(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    heard: dict[str, list[Heartbeat]] = {"red": [], "blue": []}

    async def hear(message: Message) -> None:
        heard[message.subject.split(".")[2]].append(Heartbeat.decode(message.payload))

    for tenant in heard:
        await edge.subscribe(subjects.load(tenant), hear)
    async with worker_on(broker, hosted, tenants=TWO, heartbeat_s=0.02):
        await until(lambda: all(len(beats) >= 3 for beats in heard.values()))
        with pytest.raises(NoResponders):
            await ask(edge, bundle, subject=whole("green"))
    await until(lambda: all(beats[-1].draining for beats in heard.values()))
    assert all(beats[0].models == (hosted.announced(),) for beats in heard.values())


async def test_who_is_over_its_quota_is_told_so_and_when_to_come_again(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    """One request at once, then one in 20 s. The tenant's edges hear of the wait, the others' do not."""
    waits: dict[str, int] = {}

    async def hear(message: Message) -> None:
        waits[message.subject.split(".")[2]] = Heartbeat.decode(message.payload).predicted_wait_us

    for tenant in ("red", "blue"):
        await edge.subscribe(subjects.load(tenant), hear)
    tenants = (Tenant("red", rate_rps=0.05, burst=1), Tenant("blue"))
    async with worker_on(broker, hosted, tenants=tenants, heartbeat_s=0.02) as worker:
        assert isinstance((await ask(edge, bundle, "e.r.1", subject=whole("red"))).outcome, Answer)
        over = await ask(edge, bundle, "e.r.2", subject=whole("red"))
        nack = refused(over)
        assert nack.code is NackCode.QUOTA and "0.05 requests per second" in nack.detail
        assert 1_000_000 < nack.retry_after_us <= 20_000_000
        assert 1_000_000 < over.predicted_wait_us <= 20_000_000
        await until(lambda: waits.get("red", 0) > 1_000_000 and "blue" in waits)
        for number in range(5):
            assert isinstance((await ask(edge, bundle, f"e.r.{number}", subject=whole("blue"))).outcome, Answer)
        assert waits["blue"] < 1_000_000
        told = worker.status()
        assert told.tenants["red"]["over_quota"] == 1 and told.tenants["blue"]["refused"] == 0
        assert told.predicted_wait_ms < 1000  # more workers would not shorten that wait


async def test_what_ends_unserved_gives_its_place_back(broker: EmbeddedServer, edge: Bus, bundle: Bundle) -> None:
    """Two requests of red at a time: one that was cancelled, one that expired, and one that failed leave room."""
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow, tenants=(Tenant("red", concurrency=2),), heartbeat_s=0.02) as worker:
        warm = slow.entered
        slow.gate.clear()
        running = asyncio.create_task(ask(edge, bundle, "e.r.0", subject=whole("red")))
        await until(lambda: slow.entered == warm + 1)
        waiting = asyncio.create_task(ask(edge, bundle, "e.r.1", subject=whole("red")))
        await until(lambda: worker.status().queue_depth == 1)
        assert refused(await ask(edge, bundle, "e.r.2", subject=whole("red"))).code is NackCode.QUOTA
        await edge.publish(subjects.cancel("red"), Cancel("e.r.1").encode())
        assert refused(await waiting).code is NackCode.CANCELLED
        late = await ask(edge, bundle, "e.r.3", subject=whole("red"), budget_us=200_000)
        assert refused(late).code is NackCode.EXPIRED
        slow.gate.set()
        assert isinstance((await running).outcome, Answer)
        bad = await ask(edge, bundle, "e.r.4", subject=whole("red"), payload=payload_for(bundle, bundle.cuts[0].name))
        assert refused(bad).code is NackCode.BAD_REQUEST
        together = await asyncio.gather(*(ask(edge, bundle, f"e.r.{n}", subject=whole("red")) for n in (5, 6)))
        assert all(isinstance(each.outcome, Answer) for each in together)
        assert worker._dispatch._quotas.open("red") == 0


IMPORTS = (("service", "infer.>"), ("service", "worker.>"), ("service", "cancel"), ("stream", "load"))


def accounts(*tenants: str) -> list[str]:
    """Of the broker's configuration: the workers' account exports each tenant's subjects to that tenant alone."""
    exports = [f"{{ {kind}: sm.v1.{t}.{what}, accounts: [{t}] }}" for t in tenants for kind, what in IMPORTS]
    lines = [f"workers {{ users: [{{user: worker, password: w}}], exports: [{', '.join(exports)}] }}"]
    for t in tenants:
        imports = [f"{{ {kind}: {{account: workers, subject: sm.v1.{t}.{what}}} }}" for kind, what in IMPORTS]
        lines.append(f"{t} {{ users: [{{user: {t}, password: {t}}}], imports: [{', '.join(imports)}] }}")
    return ["accounts {", *lines, "}"]


async def test_tenants_in_accounts_of_their_own_reach_their_own_subjects_and_no_others(
    tmp_path: Path, bundle: Bundle, hosted: Hosted
) -> None:
    """What blue sends on red's subjects goes nowhere."""
    async with EmbeddedServer(store=tmp_path / "nats", extra=accounts("red", "blue")) as server:
        red, blue = [
            await connect_nats(server.url.replace("//", f"//{name}:{name}@"), name=name, give_up_s=10)
            for name in ("red", "blue")
        ]
        beats: list[Heartbeat] = []

        async def hear(message: Message) -> None:
            beats.append(Heartbeat.decode(message.payload))

        await blue.subscribe(subjects.load("blue"), hear)
        async with worker_on(server, hosted, tenants=TWO, heartbeat_s=0.02, user="worker:w") as worker:
            await until(lambda: len(beats) >= 2)
            assert isinstance((await ask(red, bundle, subject=whole("red"))).outcome, Answer)
            direct = await ask(blue, bundle, subject=subjects.worker("blue", "w-1"))
            assert isinstance(direct.outcome, Answer)
            for forged in (whole("red"), subjects.worker("red", "w-1")):
                with pytest.raises(NoResponders):
                    await ask(blue, bundle, "e.r.forged", subject=forged)
            assert [row["served"] for row in worker.status().tenants.values()] == [1, 1]
        await red.drain()
        await blue.drain()


async def test_a_tenant_of_half_the_compute_never_has_both_slots(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle
) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow, slots=2, tenants=(Tenant("red", share=0.5), Tenant("blue"))) as worker:
        warm = slow.entered
        slow.gate.clear()
        red = [asyncio.create_task(ask(edge, bundle, f"e.r.{n}", subject=whole("red"))) for n in range(3)]
        await until(lambda: worker.status().queue_depth == 2)
        assert slow.entered == warm + 1
        blue = [asyncio.create_task(ask(edge, bundle, f"e.r.{n}", subject=whole("blue"))) for n in range(2)]
        await until(lambda: slow.entered == warm + 2)
        assert [row["running"] for row in worker.status().tenants.values()] == [1, 1]
        slow.gate.set()
        assert all(isinstance(each.outcome, Answer) for each in await asyncio.gather(*red, *blue))


async def test_a_tenant_far_over_its_quota_costs_the_others_no_frame(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    """Red may send 2 a second, 5 of them at once, and keeps 30 under way all the while. Blue and green send one
    after the other, and each is answered. Every request of red's has its answer or its refusal too.
    """
    payload = payload_for(bundle, "")
    tenants = (Tenant("red", rate_rps=2, burst=5, share=0.5), Tenant("blue"), Tenant("green"))
    flooding = asyncio.Event()
    flooding.set()
    ends: Counter[str] = Counter()

    async def flood(number: int) -> None:
        while flooding.is_set():
            reply = await ask(edge, bundle, f"red.r.{ends.total()}-{number}", payload=payload, subject=whole("red"))
            ends[reply.outcome.code.label if isinstance(reply.outcome, Nack) else "answered"] += 1

    async def steady(tenant: str) -> list[InferReply]:
        return [await ask(edge, bundle, f"{tenant}.r.{n}", payload=payload, subject=whole(tenant)) for n in range(60)]

    async with worker_on(broker, hosted, slots=2, tenants=tenants) as worker:
        begun_s = time.monotonic()
        floods = [asyncio.create_task(flood(number)) for number in range(30)]
        await until(lambda: ends["quota"] > 0)
        others = await asyncio.gather(steady("blue"), steady("green"))
        flooding.clear()
        await asyncio.gather(*floods)
        allowed = 5 + 2 * (time.monotonic() - begun_s)
        assert all(isinstance(reply.outcome, Answer) for replies in others for reply in replies)
        assert set(ends) == {"answered", "quota"} and 5 <= ends["answered"] <= allowed
        assert ends.total() > 10 * ends["answered"]
        told = worker.status().tenants
        assert (told["red"]["served"], told["red"]["over_quota"]) == (ends["answered"], ends["quota"])
        assert told["blue"] | {"predicted_wait_ms": 0} == told["green"] | {"predicted_wait_ms": 0}
        assert told["blue"]["served"] == 60 and told["blue"]["refused"] == 0
        counted = worker._metrics.tenant_requests_total
        for tenant, outcome, count in (("red", "over-quota", ends["quota"]), ("blue", "answered", 60)):
            await until(lambda t=tenant, o=outcome, c=count: counted.labels(t, o)._value.get() == c)
        assert worker._metrics.tenant_compute_seconds_total.labels("blue")._value.get() > 0


async def test_a_flood_of_tables_is_cut_short_and_another_tenants_is_read(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    cut = bundle.cuts[0].name
    table = TableOffer("e", MODEL, bundle.sha256, cut, fit_table(features(bundle, cut)).to_bytes()).encode()

    async def offered(tenant: str, raw: bytes) -> Nack | None:
        return TableReply.decode((await edge.request(subjects.table(tenant, "w-1"), raw, timeout_s=20)).payload).nack

    async with worker_on(broker, hosted, tenants=TWO):
        nacks = await asyncio.gather(*(offered("red", b"junk") for _ in range(200)))
        codes = Counter(nack.code for nack in nacks if nack is not None)
        assert codes.keys() == {NackCode.BAD_REQUEST, NackCode.QUOTA} and codes[NackCode.BAD_REQUEST] >= 64
        assert all(nack.retry_after_us > 0 for nack in nacks if nack is not None and nack.code is NackCode.QUOTA)
        assert await offered("blue", table) is None
