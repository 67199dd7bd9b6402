"""What the gateway costs, and whether it stays upright: `make bench-gateway`.

*Added latency.* One frame at a time, the model's own JPEG to an idle worker, by turns: straight over NATS, through
an Analyze call, through Infer, and through Analyze as a picture of camera size that the gateway decodes and resizes.
Each way's p50 and p95; what is left of it without the time that the worker itself tells of, and by how much that is
longer than over NATS. The model's run is most of the whole, and varies by more than the gateway costs.

*Many streams.* `--streams` Analyze calls at `--fps` each, on schedule whether or not results have come, far beyond
what one worker can do. Every frame must have its result; the gateway's memory is read twice a second.

Broker, worker and gateway are processes of their own; the callers share the machine with them. Writes
bench/results/gateway.json and .png.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import av
import grpc
import simplejpeg
from bench.gateway_streams import offer_streams

from splitmesh.bus.base import Bus
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer
from splitmesh.client.channel import Access, methods_of
from splitmesh.codec.container import Section, build
from splitmesh.lab.artifacts import versions
from splitmesh.lab.child import Child
from splitmesh.lab.commands import clean_environment, command_line
from splitmesh.media.prepare import Preparer
from splitmesh.models.registry import default_clip, resolve_model
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.v1 import infer_pb2
from splitmesh.wire import subjects
from splitmesh.wire.messages import InferReply, Nack, WorkerTimes
from splitmesh.wire.requests import InferRequest

RESULTS = Path(__file__).resolve().parent / "results"
WORKER = "w-1"
_START_S = 180.0
_WARM_TURNS = 20
_BUDGET_US = 5_000_000


class Mesh:
    """Broker, worker and gateway of the default model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.broker = EmbeddedServer(store=folder / "nats")
        self.worker = self._child("cloud", name=WORKER, web_port=None)
        self.gateway: Child | None = None
        self.address = ""

    def _child(self, section: str, **values: Any) -> Child:
        ready = self._folder / f"{section}.json"
        line = command_line(section, {"ready_json": ready, **values})
        return Child(section, line, log_path=self._folder / f"{section}.log", ready_file=ready)

    @property
    def gateway_pid(self) -> int:
        if self.gateway is None or self.gateway.pid is None:
            raise RuntimeError("the gateway was not started")
        return self.gateway.pid

    async def __aenter__(self) -> Mesh:
        await self.broker.start()
        self.worker = self._child("cloud", name=WORKER, web_port=None, nats_url=self.broker.url)
        self.gateway = self._child("gateway", name="gw", web_port=None, grpc_port=0, nats_url=self.broker.url)
        for child in (self.worker, self.gateway):
            await child.start(environment=clean_environment(os.environ))
        await self.worker.wait_ready(_START_S)
        facts = await self.gateway.wait_ready(_START_S)
        self.address = f"127.0.0.1:{facts['grpc_port']}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in (self.gateway, self.worker):
            if child is not None:
                await child.stop()
        await self.broker.stop()


class Pictures:
    """JPEGs of a video: whole, and as the default model takes them, with the payload that holds the same bytes."""

    def __init__(self, source: str, count: int) -> None:
        model = resolve_model()
        self.name, self.sha256 = model.manifest.name, model.sha256
        preparer = Preparer.from_manifest(model.manifest)
        self.whole: list[bytes] = []
        self.small: list[bytes] = []
        self.payloads: list[bytes] = []
        with av.open(source) as video:
            for number, frame in enumerate(video.decode(video=0)):
                if number == count:
                    break
                prepared = preparer.prepare(frame)
                jpeg = simplejpeg.encode_jpeg(prepared.rgb, 85, "RGB", "422")
                self.whole.append(simplejpeg.encode_jpeg(frame.to_ndarray(format="rgb24"), 85, "RGB", "422"))
                self.small.append(jpeg)
                self.payloads.append(build("jpeg", 85, [Section("", prepared.rgb.shape, 0, b"", jpeg)]))
                prepared.release()


async def direct(bus: Bus, pictures: Pictures, turn: int) -> float:
    """Milliseconds that the worker itself took, as it says."""
    request = InferRequest(
        frame_id=f"bench.run.{turn}",
        edge_id="bench",
        model=pictures.name,
        model_sha256=pictures.sha256,
        cut="",
        payload=pictures.payloads[turn % len(pictures.payloads)],
        budget_us=_BUDGET_US,
    )
    message = await bus.request(subjects.worker("default", WORKER), request.encode(), timeout_s=10)
    reply = InferReply.decode(message.payload)
    if isinstance(reply.outcome, Nack):
        raise RuntimeError(f"the worker refuses: {reply.outcome}")
    return within_worker_ms(reply.times)


def checked(result: pb.Result) -> float:
    """Milliseconds that the worker itself took, as it says."""
    if result.WhichOneof("outcome") != "answer":
        raise RuntimeError(f"no answer: {result.error}")
    return within_worker_ms(result.times)


def within_worker_ms(times: WorkerTimes | infer_pb2.WorkerTimes) -> float:
    return (times.queue_us + times.decode_us + times.service_us + times.postprocess_us) / 1e3


async def added_latency(mesh: Mesh, pictures: Pictures, turns: int) -> dict[str, Any]:
    """Milliseconds of each way, by turns."""
    bus = await connect_nats(mesh.broker.url, name="bench", give_up_s=10)
    channel = Access(mesh.address).open(grpc.aio)
    methods = methods_of(channel)
    call = methods["Analyze"]()

    async def analyze(jpegs: list[bytes], turn: int) -> float:
        frame = pb.Frame(seq=turn, encoded=jpegs[turn % len(jpegs)], budget_ms=_BUDGET_US / 1e3)
        await call.write(frame)
        return checked(await call.read())

    async def infer(turn: int) -> float:
        frame = pb.Frame(encoded=pictures.small[turn % len(pictures.small)], budget_ms=_BUDGET_US / 1e3)
        return checked(await methods["Infer"](frame))

    ways: dict[str, Callable[[int], Awaitable[float]]] = {
        "nats": lambda turn: direct(bus, pictures, turn),
        "analyze": lambda turn: analyze(pictures.small, turn),
        "infer": infer,
        "analyze_whole_picture": lambda turn: analyze(pictures.whole, turn),
    }
    taken_ms: dict[str, list[float]] = {way: [] for way in ways}
    beside_ms: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(turns + _WARM_TURNS):
        for way in list(ways) if turn % 2 else list(ways)[::-1]:
            started_s = time.perf_counter()
            worker_ms = await ways[way](turn)
            whole_ms = (time.perf_counter() - started_s) * 1e3
            if turn >= _WARM_TURNS:
                taken_ms[way].append(whole_ms)
                beside_ms[way].append(whole_ms - worker_ms)
    await call.done_writing()
    await channel.close()
    await bus.drain()
    return {"turns": turns, "ways": {way: told(taken_ms[way], beside_ms[way], beside_ms["nats"]) for way in ways}}


def told(taken_ms: list[float], beside_ms: list[float], nats_ms: list[float]) -> dict[str, float]:
    """nats_ms: `beside_ms` of the same turns over NATS."""
    added = [mine - theirs for mine, theirs in zip(beside_ms, nats_ms, strict=True)]
    return {
        "p50_ms": round(statistics.median(taken_ms), 3),
        "p95_ms": round(sorted(taken_ms)[int(0.95 * len(taken_ms))], 3),
        "beside_p50_ms": round(statistics.median(beside_ms), 3),
        "added_p50_ms": round(statistics.median(beside_ms) - statistics.median(nats_ms), 3),
        "median_of_added_ms": round(statistics.median(added), 3),
    }


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    source = arguments.source or str(default_clip())
    pictures = Pictures(source, 64)
    with tempfile.TemporaryDirectory() as folder:
        async with Mesh(Path(folder)) as mesh:
            latency = await added_latency(mesh, pictures, arguments.turns)
            print(json.dumps(latency["ways"], indent=1))
            streams = await offer_streams(
                mesh.address,
                mesh.gateway_pid,
                pictures.small,
                streams=arguments.streams,
                fps=arguments.fps,
                seconds=arguments.seconds,
                budget_ms=arguments.budget_ms,
            )
    return {
        "source": Path(source).name,
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 1),
        "versions": versions(),
        "latency": latency,
        "streams": streams,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", help="video; default: the built-in street scene")
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--budget-ms", type=float, default=500.0)
    parser.add_argument("--out", type=Path, default=RESULTS / "gateway.json")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments))
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    from bench.gateway_plot import plot

    plot(found, arguments.out.with_suffix(".png"))
    shown = {key: value for key, value in found["streams"].items() if not isinstance(value, list)}
    print(json.dumps(shown, indent=1))
    return 0 if found["streams"]["unaccounted"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
