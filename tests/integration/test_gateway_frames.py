"""Pictures through a real gateway, broker and worker: the answers of the bus, and one result for each frame."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
from cloud_rig import PICTURE, SlowHosted, ask, until, worker_on
from gateway_rig import caller_of, counted, gateway_on
from PIL import Image

from splitmesh.bus.base import Bus
from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.codec.container import Section, build
from splitmesh.plan.bundle.read import Bundle
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.wire.answers import answer_to_pb

JPEG = simplejpeg.encode_jpeg(np.ascontiguousarray(PICTURE), 90, "RGB", "444")


async def test_a_jpeg_of_the_models_size_is_answered_as_by_the_bus(
    broker: EmbeddedServer, edge: Bus, bundle: Bundle, hosted: Hosted
) -> None:
    payload = build("jpeg", 90, [Section("", PICTURE.shape, 0, b"", JPEG)])
    async with worker_on(broker, hosted), gateway_on(broker, bundle) as gateway, caller_of(gateway) as caller:
        direct = await ask(edge, bundle, payload=payload)
        result = await caller.infer(seq=7, encoded=JPEG, budget_ms=5000)
    assert result.seq == 7 and result.worker_id == "w-1"
    assert result.answer == answer_to_pb(direct.outcome)
    assert 0 < result.times.service_us < 1e3 * result.total_ms


async def test_every_kind_of_picture_is_answered(broker: EmbeddedServer, bundle: Bundle, hosted: Hosted) -> None:
    height, width = PICTURE.shape[:2]
    large = Image.fromarray(PICTURE).resize((4 * width, 4 * height), Image.Resampling.NEAREST)
    files = {}
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("JPEG", {"quality": 95})):
        files[kind] = io.BytesIO()
        large.save(files[kind], kind, **options)
    frames = [pb.Frame(seq=n, encoded=file.getvalue(), budget_ms=5000) for n, file in enumerate(files.values())]
    pixels = np.asarray(large)
    raw = pb.RgbPicture(pixels=pixels.tobytes(), width=pixels.shape[1], height=pixels.shape[0])
    frames.append(pb.Frame(seq=len(frames), rgb=raw, budget_ms=5000))
    async with worker_on(broker, hosted), gateway_on(broker, bundle) as gateway, caller_of(gateway) as caller:
        alone = await caller.infer(encoded=JPEG, budget_ms=5000)
        results = await caller.results(frames)
    assert sorted(result.seq for result in results) == list(range(5))
    for result in results:
        assert result.answer.classes == alone.answer.classes, result
        scores = np.frombuffer(result.answer.scores, "<f4")
        assert np.allclose(scores, np.frombuffer(alone.answer.scores, "<f4"), atol=0.1)


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({}, pb.FRAME_ERROR_CODE_BAD_FRAME, "no picture"),
        ({"encoded": b"GIF89a no"}, pb.FRAME_ERROR_CODE_BAD_FRAME, "no picture that can be read"),
        ({"encoded": JPEG[:200]}, pb.FRAME_ERROR_CODE_BAD_FRAME, ""),
        ({"encoded": b"\xff\xd8\xff\xe0" + bytes(50)}, pb.FRAME_ERROR_CODE_BAD_FRAME, "JPEG"),
        (
            {"rgb": pb.RgbPicture(pixels=b"123", width=2, height=2)},
            pb.FRAME_ERROR_CODE_BAD_FRAME,
            "3 bytes are not the 12",
        ),
        ({"rgb": pb.RgbPicture(width=20_000, height=1)}, pb.FRAME_ERROR_CODE_BAD_FRAME, "16384"),
        ({"encoded": JPEG, "budget_ms": -1.0}, pb.FRAME_ERROR_CODE_BAD_FRAME, "budget_ms"),
        ({"encoded": JPEG, "budget_ms": float("nan")}, pb.FRAME_ERROR_CODE_BAD_FRAME, "budget_ms"),
        ({"encoded": JPEG, "model": "no-such"}, pb.FRAME_ERROR_CODE_UNKNOWN_MODEL, "no-such"),
        ({"encoded": JPEG, "budget_ms": 0.001}, pb.FRAME_ERROR_CODE_EXPIRED, ""),
    ],
)
async def test_a_frame_that_fails_says_why_and_ends_nothing(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, fields: dict[str, object], code: int, words: str
) -> None:
    frames = [pb.Frame(seq=1, **fields), pb.Frame(seq=2, encoded=JPEG, budget_ms=5000)]
    async with worker_on(broker, hosted), gateway_on(broker, bundle) as gateway, caller_of(gateway) as caller:
        results = {result.seq: result for result in await caller.results(frames)}
    assert results[1].error.code == code and words in results[1].error.detail
    assert results[2].WhichOneof("outcome") == "answer"


async def test_a_name_as_long_as_a_message_is_not_remembered(broker: EmbeddedServer, bundle: Bundle) -> None:
    async with gateway_on(broker, bundle) as gateway, caller_of(gateway) as caller:
        result = await caller.infer(encoded=JPEG, model="m" * 1_000_000)
        told = await caller.call("Explain", pb.FrameQuery(frame_id=result.frame_id), pb.Explanation)
    assert result.error.code == pb.FRAME_ERROR_CODE_UNKNOWN_MODEL
    assert told.spans and told.ByteSize() < 2_000


async def test_without_a_worker_a_frame_is_refused_at_once(broker: EmbeddedServer, bundle: Bundle) -> None:
    async with gateway_on(broker, bundle) as gateway, caller_of(gateway) as caller:
        result = await caller.infer(encoded=JPEG, budget_ms=60_000)
    assert result.error.code == pb.FRAME_ERROR_CODE_UNAVAILABLE
    assert result.total_ms < 10_000


async def test_a_caller_that_goes_cancels_its_frames_at_the_worker(broker: EmbeddedServer, bundle: Bundle) -> None:
    slow = SlowHosted(bundle)
    async with worker_on(broker, slow) as worker, gateway_on(broker, bundle) as gateway:
        slow.gate.clear()
        async with caller_of(gateway) as caller:
            call = caller.analyze()
            for seq in range(3):
                await call.write(pb.Frame(seq=seq, encoded=JPEG, budget_ms=30_000))
            await until(lambda: worker.status().queue_depth == 2)
            call.cancel()
            await until(lambda: worker.status().nacked.get("cancelled", 0) == 2)
        slow.gate.set()
        await until(lambda: counted(gateway, "splitmesh_gateway_in_flight_frames") == 0)
        assert counted(gateway, "splitmesh_gateway_frames_total", tenant="default", outcome="cancelled") == 3
        assert counted(gateway, "splitmesh_gateway_calls_total", method="Analyze", code="CANCELLED") == 1
