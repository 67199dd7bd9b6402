"""Owns what workers say, and cancellations, as typed values. Refuses any that break a rule, on both ways.

Every message checks itself when it is made, so that neither end can send or accept one that lies.
`encode` gives the same bytes for the same value; unknown fields of a newer peer are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from splitmesh.errors import WireError
from splitmesh.frames.answer import Answer
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire.answers import answer_from_pb, answer_to_pb
from splitmesh.wire.checks import MAX_SEQ, MAX_US, check_id, check_range, check_sha256, check_size, check_text
from splitmesh.wire.packing import pack, parse
from splitmesh.wire.subjects import check_token

MAX_REPLY_BYTES = 1_000_000
"""Of one encoded reply."""
MAX_DETAIL_CHARS = 500
MAX_HOSTED_MODELS = 64
MAX_CUTS = 64


class NackCode(IntEnum):
    """Why a worker refuses. Numbers are those of the wire."""

    OVERLOADED = 1
    EXPIRED = 2
    UNKNOWN_MODEL = 3
    BAD_REQUEST = 4
    INFERENCE_FAILED = 5
    DRAINING = 6
    CANCELLED = 7
    NEED_KEYFRAME = 8
    NEED_TABLE = 9
    QUOTA = 10

    @property
    def label(self) -> str:
        """Lower case, for metrics and records: "overloaded"."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class WorkerTimes:
    """Microseconds on the worker's monotonic clock."""

    queue_us: int = 0
    """Arrival to start of service."""
    decode_us: int = 0
    service_us: int = 0
    """The model's run."""
    postprocess_us: int = 0

    def __post_init__(self) -> None:
        check_range(self.queue_us, field="times.queue_us", high=MAX_US)
        check_range(self.decode_us, field="times.decode_us", high=MAX_US)
        check_range(self.service_us, field="times.service_us", high=MAX_US)
        check_range(self.postprocess_us, field="times.postprocess_us", high=MAX_US)


@dataclass(frozen=True, slots=True)
class Nack:
    """A refusal. `detail` is for people and never branched on; `retry_after_us` 0: trying again makes no sense."""

    code: NackCode
    detail: str = ""
    retry_after_us: int = 0

    def __post_init__(self) -> None:
        check_text(self.detail, field="nack.detail", limit=MAX_DETAIL_CHARS)
        check_range(self.retry_after_us, field="nack.retry_after_us", high=MAX_US)


@dataclass(frozen=True, slots=True)
class InferReply:
    """What became of a request: an answer in the model's input picture, or a refusal.

    `frame_id` is "" where `seq` stands for it, as in the request, and in the refusal of a request too malformed to
    name its frame.
    """

    frame_id: str
    worker_id: str
    outcome: Answer | Nack
    times: WorkerTimes = WorkerTimes()
    predicted_wait_us: int = 0
    """How long a request that arrives now would wait, as the worker predicts."""
    seq: int | None = None
    """Of a StreamRequest: the last part of the frame id."""

    def __post_init__(self) -> None:
        if self.seq is not None:
            check_range(self.seq, field="seq", high=MAX_SEQ)
        elif self.frame_id or not isinstance(self.outcome, Nack):
            check_id(self.frame_id, field="frame_id")
        check_token(self.worker_id, field="worker_id")
        check_range(self.predicted_wait_us, field="predicted_wait_us", high=MAX_US)

    def encode(self) -> bytes:
        """Raises WireError if the answer holds NaN, infinity, a score outside [0, 1] or too many boxes, and if the
        reply would be longer than `MAX_REPLY_BYTES`.
        """
        message = pb.InferReply(
            frame_id=self.frame_id,
            worker_id=self.worker_id,
            times=pb.WorkerTimes(
                queue_us=self.times.queue_us,
                decode_us=self.times.decode_us,
                service_us=self.times.service_us,
                postprocess_us=self.times.postprocess_us,
            ),
            predicted_wait_us=self.predicted_wait_us,
            seq=self.seq,
        )
        if isinstance(self.outcome, Nack):
            message.nack.CopyFrom(_nack_to_pb(self.outcome))
        else:
            message.answer.CopyFrom(answer_to_pb(self.outcome))
        raw = pack(message)
        if len(raw) > MAX_REPLY_BYTES:
            raise WireError(
                f"the reply takes {len(raw)} bytes, more than the {MAX_REPLY_BYTES} that one message may have",
                advice="name fewer or smaller outputs in the manifest, or run this model on the edge alone",
            )
        return raw

    @staticmethod
    def decode(raw: bytes) -> InferReply:
        """Raises WireError that names the field that breaks a rule."""
        m = parse(pb.InferReply, raw)
        outcome: Answer | Nack
        match m.WhichOneof("outcome"):
            case "answer":
                outcome = answer_from_pb(m.answer)
            case "nack":
                outcome = _nack_from_pb(m.nack)
            case _:
                raise WireError("outcome is missing: neither an answer nor a nack")
        t = m.times
        times = WorkerTimes(t.queue_us, t.decode_us, t.service_us, t.postprocess_us)
        seq = m.seq if m.HasField("seq") else None
        return InferReply(m.frame_id, m.worker_id, outcome, times, m.predicted_wait_us, seq)


@dataclass(frozen=True, slots=True)
class TableReply:
    """What became of a TableOffer. `nack` None: the worker holds the table now."""

    worker_id: str
    nack: Nack | None = None

    def __post_init__(self) -> None:
        check_token(self.worker_id, field="worker_id")

    def encode(self) -> bytes:
        nack = None if self.nack is None else _nack_to_pb(self.nack)
        return pack(pb.TableReply(worker_id=self.worker_id, nack=nack))

    @staticmethod
    def decode(raw: bytes) -> TableReply:
        """Raises WireError that names the field that breaks a rule."""
        m = parse(pb.TableReply, raw)
        return TableReply(m.worker_id, _nack_from_pb(m.nack) if m.HasField("nack") else None)


def _nack_to_pb(nack: Nack) -> pb.Nack:
    return pb.Nack(code=pb.NackCode.ValueType(nack.code), detail=nack.detail, retry_after_us=nack.retry_after_us)


def _nack_from_pb(m: pb.Nack) -> Nack:
    code = check_range(m.code, field="nack.code", low=min(NackCode), high=max(NackCode))
    return Nack(NackCode(code), m.detail, m.retry_after_us)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this frame any more."""

    frame_id: str

    def __post_init__(self) -> None:
        check_id(self.frame_id, field="frame_id")

    def encode(self) -> bytes:
        return pack(pb.Cancel(frame_id=self.frame_id))

    @staticmethod
    def decode(raw: bytes) -> Cancel:
        """Raises WireError that names the field that breaks a rule."""
        return Cancel(parse(pb.Cancel, raw).frame_id)


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model that a worker serves whole, and at these cuts."""

    model: str
    model_sha256: str
    cuts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_token(self.model, field="models.model")
        check_sha256(self.model_sha256, field="models.model_sha256")
        check_size(len(self.cuts), field="models.cuts", limit=MAX_CUTS)
        for cut in self.cuts:
            check_token(cut, field="models.cuts")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sent by every worker five times a second, and once more when it starts to drain."""

    worker_id: str
    seq: int
    models: tuple[HostedModel, ...]
    predicted_wait_us: int = 0
    queue_depth: int = 0
    draining: bool = False

    def __post_init__(self) -> None:
        check_token(self.worker_id, field="worker_id")
        check_range(self.seq, field="seq", high=2**63 - 1)
        check_size(len(self.models), field="models", limit=MAX_HOSTED_MODELS)
        check_range(self.predicted_wait_us, field="predicted_wait_us", high=MAX_US)
        check_range(self.queue_depth, field="queue_depth", high=2**31 - 1)

    def encode(self) -> bytes:
        models = [pb.HostedModel(model=h.model, model_sha256=h.model_sha256, cuts=h.cuts) for h in self.models]
        return pack(
            pb.Heartbeat(
                worker_id=self.worker_id,
                seq=self.seq,
                models=models,
                predicted_wait_us=self.predicted_wait_us,
                queue_depth=self.queue_depth,
                draining=self.draining,
            )
        )

    @staticmethod
    def decode(raw: bytes) -> Heartbeat:
        """Raises WireError that names the field that breaks a rule."""
        m = parse(pb.Heartbeat, raw)
        check_size(len(m.models), field="models", limit=MAX_HOSTED_MODELS)
        models = tuple(HostedModel(h.model, h.model_sha256, tuple(h.cuts)) for h in m.models)
        return Heartbeat(m.worker_id, m.seq, models, m.predicted_wait_us, m.queue_depth, m.draining)
