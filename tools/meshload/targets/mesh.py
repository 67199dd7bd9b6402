"""Owns load on workers of the mesh, in its own protocol.

    nats://host[:port]/tenant/model[/cut]

Refuses to send before a worker was heard that holds the model. Payloads that build on each other go to one worker, in
order, each stream under an id of its own.
"""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import SplitResult

from google.protobuf.message import DecodeError

from meshload.errors import TargetError
from meshload.payloads.envelope import Envelope, Work, stamped_next
from meshload.target import Payload, Reply, Request, Status
from meshload.targets import TargetOptions
from meshload.targets.homes import Homes
from meshload.targets.kept import Kept
from meshload.targets.nats import NatsTarget, Unsendable
from meshload.targets.nats_wire import Connection
from splitmesh.errors import MeshError, WireError
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.headers import MAX_BUDGET_US
from splitmesh.wire.messages import Heartbeat, NackCode
from splitmesh.wire.requests import MAX_STREAM

_HEARD_S = 3.0
"""Workers say five times a second that they are there."""
_ROUND_S = 0.5
"""In which every worker that is there says so."""
_NO_DEADLINE_US = 60_000_000
_LABELS = {code.value: code.label for code in NackCode}


class MeshTarget(NatsTarget):
    """A pool of workers of the mesh. Requests carry fresh frame ids, budgets and traces around prepared payloads."""

    scheme = "nats"

    def __init__(self, url: str, parts: SplitResult, options: TargetOptions) -> None:
        super().__init__(url, parts, options)
        names = parts.path.strip("/").split("/")
        try:
            self._tenant, self._model, *cut = names
            self._cut = "" if cut in ([], [subjects.WHOLE]) else "/".join(cut)
            subjects.infer(self._tenant, self._model, self._cut)
        except (ValueError, MeshError) as exc:
            raise TargetError(
                f"is not tenant/model[/cut]: {exc}" if isinstance(exc, MeshError) else "is not tenant/model[/cut]",
                url=url,
                advice="write it as nats://host:4222/default/coco-ssdlite",
            ) from exc
        self._digest = ""
        self._heads: dict[tuple[str, str], bytes] = {}
        self._envelopes = Kept(self._envelope, len)
        self._homes = Homes()

    async def prepare(self, connection: Connection) -> None:
        """Hear which weights the workers hold, as a request names them; and, for streams, which workers there are."""
        beats: asyncio.Queue[bytes] = asyncio.Queue()
        sid = connection.listen(subjects.load(self._tenant), lambda _, beat: beats.put_nowait(beat))
        heard: set[str] = set()
        try:
            async with asyncio.timeout(_HEARD_S):
                while not self._digest:
                    self._hear(await beats.get(), heard)
            await self._hear_all(beats, heard)
        except TimeoutError:
            known = f"workers heard hold {', '.join(sorted(heard))}" if heard else "no worker was heard"
            raise TargetError(
                f"nobody serves {self._model} at cut {self._cut or subjects.WHOLE}: {known}",
                url=self.url,
                advice="start one: splitmesh cloud --help",
            ) from None
        connection.unlisten(sid)

    async def _hear_all(self, beats: asyncio.Queue[bytes], heard: set[str]) -> None:
        if not self.options.streams:
            return
        try:
            async with asyncio.timeout(_ROUND_S):
                while True:
                    self._hear(await beats.get(), heard)
        except TimeoutError:
            return

    def _hear(self, raw: bytes, heard: set[str]) -> None:
        try:
            beat = Heartbeat.decode(raw)
        except WireError:
            return
        for hosted in beat.models:
            heard |= {f"{hosted.model}/{cut}" for cut in (subjects.WHOLE, *hosted.cuts)}
            ours = self._digest in ("", hosted.model_sha256)
            if hosted.model == self._model and ours and (not self._cut or self._cut in hosted.cuts):
                self._digest = hosted.model_sha256
                if not beat.draining:
                    self._homes.add_worker(beat.worker_id)

    def connected_again(self) -> None:
        self._heads.clear()

    def message(self, request: Request) -> tuple[bytes, bytes]:
        payload = request.payload
        left_us = _NO_DEADLINE_US
        if request.deadline_ns:
            left_us = min(request.budget_ns(request.sent_ns) // 1000, MAX_BUDGET_US)
        if payload.follows:
            home = self._homes.find(payload.stream)
            if home is None:
                raise Unsendable("its stream is not open")
            body = stamped_next(
                payload.data, stream=home.stream, seq=request.seq, budget_us=left_us, trace=request.trace
            )
            return self._to_worker(request, home.worker), body
        stream, head = 0, b""
        if payload.stream:
            home = self._homes.open(payload.stream, secrets.randbelow(MAX_STREAM) + 1)
            stream, head = home.stream, self._to_worker(request, home.worker)
        frame_id = f"{request.edge}.{request.run}.{request.seq}"
        envelope = self._envelopes.of(payload)
        body = envelope.stamp(frame_id, budget_us=left_us, trace=request.trace, stream=stream)
        return head or self._to_pool(request), body

    def nobody(self, request: Request) -> None:
        if request.payload.stream:
            self._homes.lose(request.payload.stream)

    def _to_worker(self, request: Request, worker: str) -> bytes:
        subject = subjects.worker(request.tenant or self._tenant, worker)
        return b"PUB %s %s" % (subject.encode(), self.inbox)

    def _to_pool(self, request: Request) -> bytes:
        cut = request.payload.cut or self._cut
        head = self._heads.get((request.tenant, cut))
        if head is None:
            subject = subjects.infer(request.tenant or self._tenant, self._model, cut)
            head = self._heads[request.tenant, cut] = b"PUB %s %s" % (subject.encode(), self.inbox)
        return head

    def _envelope(self, payload: Payload) -> Envelope:
        work = Work(payload.model or self._model, payload.model_sha256 or self._digest, payload.cut or self._cut)
        return Envelope(work, payload.data)

    def reply(self, body: bytes) -> Reply:
        try:
            message = pb.InferReply.FromString(body)
        except DecodeError:
            return Reply(Status.ERROR, "unreadable reply", len(body))
        if message.HasField("answer"):
            times = message.times
            spent_us = times.queue_us + times.decode_us + times.service_us + times.postprocess_us
            return Reply(Status.OK, "", len(body), spent_us / 1000)
        return Reply(Status.REFUSED, _LABELS.get(message.nack.code, "unknown refusal"), len(body))

    def describe(self) -> str:
        work = f"{self._model} at cut {self._cut or subjects.WHOLE}, tenant {self._tenant}"
        return f"mesh on NATS {self._version} at {self.address}, {work}"


def mesh_target(url: str, parts: SplitResult, options: TargetOptions) -> MeshTarget:
    """Raises TargetError for a path that is not tenant/model[/cut]."""
    return MeshTarget(url, parts, options)
