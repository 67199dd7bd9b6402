"""Messages: nothing is forgotten, nothing that lies gets through, the bytes stay what they are."""

from __future__ import annotations

import dataclasses
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitmesh.errors import (
    CodecError,
    FrameShapeError,
    InferenceError,
    MeshError,
    ModelError,
    NeedKeyframe,
    NeedTable,
    Overloaded,
    WireError,
)
from splitmesh.frames.answer import Answer
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire.answers import MAX_BOXES, answer_from_pb, answer_to_pb
from splitmesh.wire.checks import MAX_SEQ
from splitmesh.wire.messages import (
    MAX_REPLY_BYTES,
    Cancel,
    Heartbeat,
    HostedModel,
    InferReply,
    Nack,
    NackCode,
    TableReply,
    WorkerTimes,
)
from splitmesh.wire.nacks import nack_code_for, nack_for
from splitmesh.wire.requests import (
    MAX_PAYLOAD_BYTES,
    InferRequest,
    StreamRequest,
    TableOffer,
    decode_request,
    split_frame_id,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "wire"
SHA = "0123456789abcdef" * 4
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def same(a: Answer, b: Answer) -> bool:
    def arrays(answer: Answer) -> dict[str, np.ndarray]:
        fixed = {f.name: getattr(answer, f.name) for f in dataclasses.fields(Answer) if f.name != "tensors"}
        return {**fixed, **{f"tensors.{name}": tensor for name, tensor in answer.tensors.items()}}

    ours, theirs = arrays(a), arrays(b)
    return list(ours) == list(theirs) and all(
        np.array_equal(value, theirs[name]) and value.dtype == theirs[name].dtype for name, value in ours.items()
    )


def boxes_alone() -> Answer:
    return Answer(
        np.array([[0.125, 0.25, 0.5, 0.75], [0, 0, 1, 1]], np.float32),
        np.array([0.875, 0.5], np.float32),
        np.array([3, 65535], np.uint16),
        np.array([[[0.25, 0.5], [0.75, 1]], [[0, 0.125], [1, 0]]], np.float32),
    )


def full_answer() -> Answer:
    """Every dtype, in arrays too short to be worth deflating: their bytes depend on no build of zlib."""
    tensors = {
        "mask": np.array([[0, 1, 2], [7, 255, 3]], np.uint8),
        "wide": np.array([[300]], np.uint16),
        "raw/π": np.array([[[0.5, -2.0]]], np.float32),
        "index": np.array([-2], np.int64),
        "count": np.array([5, -6], np.int32),
    }
    return dataclasses.replace(boxes_alone(), tensors=tensors)


def masked() -> Answer:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:50] = 15
    return Answer.of_tensors({"mask": mask})


# Every field of every message is set to something that is not its default.
SATURATED = {
    "infer_request": InferRequest(
        "cam-1.r7.42", "edge-of-another-name", "coco-ssdlite", SHA, "c3", b"\x00payload\xff", True, 150_000, TRACE, 7
    ),
    "stream_request": StreamRequest(0xDEADBEEF, 42, b"\x00payload\xff", 150_000, TRACE),
    "table_offer": TableOffer("cam-1", "coco-ssdlite", SHA, "c3", b"\x00table\xff"),
    "table_reply": TableReply("w-1", Nack(NackCode.UNKNOWN_MODEL, "not here", 7)),
    "infer_reply_seq": InferReply("", "w-1", Nack(NackCode.NEED_KEYFRAME, "gone", 7), WorkerTimes(1, 2, 3, 4), 5, 42),
    "infer_reply_answer": InferReply("cam-1.r7.42", "w-1", full_answer(), WorkerTimes(1, 2, 3, 4), 5),
    "infer_reply_nack": InferReply(
        "cam-1.r7.42", "w-1", Nack(NackCode.OVERLOADED, "queue: 90 ms, über budget", 7), WorkerTimes(1, 2, 3, 4), 5
    ),
    "cancel": Cancel("cam-1.r7.42"),
    "heartbeat": Heartbeat(
        "w-1", 9, (HostedModel("a", SHA, ("c1", "c2")), HostedModel("b", SHA, ("c3",))), 8, 7, True
    ),
}


@pytest.mark.parametrize("name", SATURATED)
def test_golden_bytes(name: str) -> None:
    raw = SATURATED[name].encode()
    assert raw.hex() == (GOLDEN / f"{name}.hex").read_text().strip()


def test_a_request_of_an_older_edge_is_read_with_its_headers() -> None:
    raw = bytes.fromhex((GOLDEN / "infer_request_with_headers.hex").read_text())
    head = {"traceparent": TRACE, "Nats-Msg-Id": "cam-1.r7.42", "Sm-Budget-Us": "150000"}
    expected = InferRequest(
        "cam-1.r7.42", "cam-1", "coco-ssdlite", SHA, "c3", b"\x00payload\xff", True, 150_000, TRACE
    )
    assert decode_request(raw, head) == expected
    assert decode_request(raw, {"Sm-Budget-Us": "150000"}) == dataclasses.replace(expected, traceparent=None)
    for broken in ({}, {"Sm-Budget-Us": "soon"}):
        with pytest.raises(WireError, match="Sm-Budget-Us"):
            decode_request(raw, broken)


def test_bytes_from_before_there_were_tensors_still_decode() -> None:
    got = InferReply.decode(bytes.fromhex((GOLDEN / "infer_reply_boxes.hex").read_text()))
    assert isinstance(got.outcome, Answer) and same(got.outcome, boxes_alone())


def test_golden_bytes_of_a_deflated_mask_decode() -> None:
    """Decoded only: other builds of zlib may deflate to other bytes."""
    got = InferReply.decode(bytes.fromhex((GOLDEN / "infer_reply_mask.hex").read_text()))
    assert isinstance(got.outcome, Answer) and same(got.outcome, masked())
    assert len(got.encode()) < 200


def decoded(sent, raw: bytes | None = None):
    raw = sent.encode() if raw is None else raw
    return decode_request(raw, {}) if isinstance(sent, StreamRequest) else type(sent).decode(raw)


@pytest.mark.parametrize("name", SATURATED)
def test_saturated_message_survives(name: str) -> None:
    sent = SATURATED[name]
    got = decoded(sent)
    assert type(got) is type(sent)
    for field in dataclasses.fields(sent):
        before, after = getattr(sent, field.name), getattr(got, field.name)
        if isinstance(before, Answer):
            assert same(before, after)
        else:
            assert before == after, field.name


UNSET = {
    "infer_request": {"InferRequest.model_sha256", "InferRequest.seq"},  # of older senders; of the slim form
    "stream_request": {
        f"InferRequest.{name}"
        for name in ("frame_id", "edge_id", "model", "model_sha256", "cut", "probe", "model_digest")
    },
    "infer_reply_seq": {"InferReply.frame_id"},
}


@pytest.mark.parametrize("name", SATURATED)
def test_saturated_message_sets_every_wire_field(name: str) -> None:
    kinds = {
        "infer_request": pb.InferRequest,
        "stream_request": pb.InferRequest,
        "table_offer": pb.TableOffer,
        "table_reply": pb.TableReply,
        "infer_reply_seq": pb.InferReply,
        "infer_reply_answer": pb.InferReply,
        "infer_reply_nack": pb.InferReply,
        "cancel": pb.Cancel,
        "heartbeat": pb.Heartbeat,
    }

    def unset(message) -> list[str]:
        given_fields = {f.name for f, _ in message.ListFields()}
        missing = []
        for field in message.DESCRIPTOR.fields:
            if field.containing_oneof and message.WhichOneof(field.containing_oneof.name) != field.name:
                continue
            if field.name not in given_fields:
                missing.append(field.full_name)
            elif field.message_type:
                value = getattr(message, field.name)
                for item in value if field.is_repeated else [value]:
                    missing += unset(item)
        return missing

    left = unset(kinds[name].FromString(SATURATED[name].encode()))
    assert {field.removeprefix("splitmesh.v1.") for field in left} == UNSET.get(name, set())


@pytest.mark.parametrize("name", SATURATED)
def test_truncated_bytes_never_pass_as_the_message(name: str) -> None:
    sent = SATURATED[name]
    raw = sent.encode()
    for cut in range(len(raw)):
        try:
            got = decoded(sent, raw[:cut])
        except WireError:
            continue
        # Protobuf has no end mark: a cut at a field border is a valid, poorer message, never the same one.
        assert got.encode() != raw


KINDS = [InferRequest, InferReply, Cancel, Heartbeat, TableOffer, TableReply]


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"])
@pytest.mark.parametrize("kind", KINDS)
def test_garbage_is_a_wire_error(kind, raw: bytes) -> None:
    with pytest.raises(WireError):
        kind.decode(raw)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_wire_error(raw: bytes) -> None:
    for decode in (*(kind.decode for kind in KINDS), lambda raw: decode_request(raw, {})):
        try:
            decode(raw)
        except WireError:
            continue


REQUEST = {
    "frame_id": "e.r.1",
    "edge_id": "e",
    "model": "m",
    "model_sha256": SHA,
    "cut": "c",
    "payload": b"x",
    "probe": False,
    "budget_us": 1,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frame_id", ""),
        ("frame_id", "a" * 129),
        ("frame_id", "a b"),
        ("frame_id", "a\r\nb"),
        ("frame_id", "a>"),
        ("edge_id", "a.b"),
        ("edge_id", "*"),
        ("model", ""),
        ("model", "m.n"),
        ("model", "m" * 65),
        ("model_sha256", SHA[:-1]),
        ("model_sha256", SHA.upper()),
        ("cut", "c>"),
        ("payload", b""),
        ("payload", bytes(MAX_PAYLOAD_BYTES + 1)),
        ("budget_us", 600_000_001),
    ],
)
def test_request_field_rules(field: str, value: object) -> None:
    fields = {**REQUEST, field: value}
    with pytest.raises(WireError, match=field):
        InferRequest(**fields)
    with pytest.raises(WireError, match=field):
        InferRequest.decode(pb.InferRequest(**fields).SerializeToString())


def test_what_only_one_end_can_break() -> None:
    for changes in ({"stream": 2**32}, {"stream": -1}, {"budget_us": -1}):
        with pytest.raises(WireError, match=next(iter(changes))):
            InferRequest(**{**REQUEST, **changes})
    with pytest.raises(WireError, match="traceparent"):
        InferRequest(**REQUEST, traceparent="junk").encode()
    with pytest.raises(WireError, match="model_sha256"):
        InferRequest.decode(
            pb.InferRequest(frame_id="e.r.1", model="m", model_digest=b"short", budget_us=1).SerializeToString()
        )


@pytest.mark.parametrize("frame_id", ["e", "e.r", "e.r.x", "e.r.", "e.r.1x", "1", ".1", "e.r." + "9" * 19])
def test_a_stream_is_opened_by_a_numbered_frame(frame_id: str) -> None:
    with pytest.raises(WireError, match="frame_id"):
        InferRequest(**{**REQUEST, "frame_id": frame_id, "stream": 1})


def test_a_slim_request_in_full_is_what_the_opener_said_with_its_own_number() -> None:
    opener = InferRequest("e.r.41", "e", "m", SHA, "c", b"key", budget_us=9, traceparent=TRACE, stream=77)
    slim = StreamRequest(77, 43, b"delta", 5)
    assert slim.full(opener) == InferRequest("e.r.43", "e", "m", SHA, "c", b"delta", budget_us=5, stream=77)


def test_the_last_frame_of_a_stream_has_a_frame_id_that_names_its_number() -> None:
    """What is sent slim is read back from the id that it stands for, and a reply says it; one more is refused."""
    opener = InferRequest("e.r.0", "e", "m", SHA, "c", b"key", budget_us=9, stream=77)
    full = StreamRequest(77, MAX_SEQ, b"delta", 5).full(opener)
    assert split_frame_id(full.frame_id) == ("e.r", MAX_SEQ)
    assert InferReply.decode(InferReply("", "w", full_answer(), seq=MAX_SEQ).encode()).seq == MAX_SEQ
    with pytest.raises(WireError, match="seq"):
        InferReply("", "w", full_answer(), seq=MAX_SEQ + 1)
    with pytest.raises(WireError, match="frame_id"):
        split_frame_id(f"e.r.{MAX_SEQ + 1}")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"payload": b""}, "payload"),
        ({"payload": bytes(MAX_PAYLOAD_BYTES + 1)}, "payload"),
        ({"budget_us": 600_000_001}, "budget_us"),
        ({"seq": 10**18}, "seq"),
        ({"stream": 0}, "frame_id"),  # then it is a request in full, and lacks everything else
    ],
)
def test_slim_request_rules(changes: dict[str, object], field: str) -> None:
    fields = {"stream": 7, "seq": 1, "payload": b"x", "budget_us": 1, **changes}
    with pytest.raises(WireError, match=field):
        decode_request(pb.InferRequest(**fields).SerializeToString(), {})


def test_a_slim_request_takes_its_payload_and_at_most_50_bytes() -> None:
    raw = StreamRequest(2**32 - 1, 10**7, bytes(300), 400_000, TRACE).encode()
    assert len(raw) - 300 <= 50


def _answer_pb(**changes: object) -> pb.Answer:
    message = answer_to_pb(full_answer())
    for key, value in changes.items():
        setattr(message, key, value)
    return message


F32 = np.float32


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"count": 3}, "boxes"),
        ({"count": 0}, "boxes"),
        ({"count": 2**32 - 1}, "count"),
        ({"count": MAX_BOXES + 1}, "count"),
        ({"boxes": bytes(31)}, "boxes"),
        ({"boxes": bytes(33)}, "boxes"),
        ({"scores": bytes(4)}, "scores"),
        ({"classes": bytes(3)}, "classes"),
        ({"points_per_box": 3}, "points"),
        ({"points_per_box": 2**32 - 1}, "points_per_box"),
        ({"count": 8192, "points_per_box": 1024}, "points_per_box"),
        ({"boxes": np.full(8, np.nan, F32).tobytes()}, "boxes"),
        ({"points": np.full(8, np.inf, F32).tobytes()}, "points"),
        ({"scores": np.array([0.5, np.nan], F32).tobytes()}, "scores"),
        ({"scores": np.array([0.5, 1.5], F32).tobytes()}, "scores"),
        ({"scores": np.array([-0.5, 1], F32).tobytes()}, "scores"),
    ],
)
def test_lying_answers(changes: dict[str, object], field: str) -> None:
    with pytest.raises(WireError, match=f"answer.{field}|{field}"):
        answer_from_pb(_answer_pb(**changes))


U8 = pb.TENSOR_TYPE_UINT8
ZEROS = zlib.compress(bytes(6))
BIG = zlib.compress(bytes(100))


@pytest.mark.parametrize(
    ("tensors", "rule"),
    [
        ([{"shape": [6], "type": U8, "data": bytes(6)}], "name has length 0"),
        ([{"name": "n" * 257, "shape": [6], "type": U8, "data": bytes(6)}], "name has length 257"),
        ([{"name": "m", "shape": [6], "data": bytes(6)}], "type 0"),
        ([{"name": "m", "shape": [6], "type": 6, "data": bytes(6)}], "type 6"),
        ([{"name": "m", "shape": [1] * 9, "type": U8, "data": b"x"}], "shape has length 9"),
        ([{"name": "m", "shape": [6], "type": U8, "data": bytes(7)}], "7 bytes are given for 6"),
        ([{"name": "m", "shape": [0], "type": U8, "data": bytes(1)}], "1 bytes are given for 0"),
        ([{"name": "m", "shape": [6], "type": U8, "data": bytes(5)}], "5 bytes for"),
        ([{"name": "m", "shape": [6], "type": U8}], "do not hold the 6"),
        ([{"name": "m", "shape": [99], "type": U8, "data": BIG}], "do not hold the 99"),
        ([{"name": "m", "shape": [101], "type": U8, "data": BIG}], "do not hold the 101"),
        ([{"name": "m", "shape": [100], "type": U8, "data": BIG[:-1]}], "do not hold the 100"),
        ([{"name": "m", "shape": [100], "type": U8, "data": BIG + b"x"}], "do not hold the 100"),
        ([{"name": "m", "shape": [100], "type": U8, "data": BIG[:-1] + b"x"}], "for .100,. uint8: "),
        ([{"name": "m", "shape": [2**26 + 1], "type": U8, "data": ZEROS}], "more than 67108864"),
        ([{"name": "m", "shape": [2**32 - 1] * 8, "type": U8, "data": ZEROS}], "more than 67108864"),
        ([{"name": "m", "shape": [2], "type": U8, "data": bytes(2)}] * 2, "'m' is there twice"),
        ([{"name": n, "shape": [2**25], "type": U8, "data": ZEROS} for n in "abc"], "take 100663296 bytes"),
        ([{"name": f"m{i}", "shape": [1], "type": U8, "data": b"x"} for i in range(65)], "has length 65"),
        ([{"name": "m", "shape": [1], "type": 1, "data": np.float32(np.nan).tobytes()}], "NaN or infinity"),
        ([{"name": "m", "shape": [1], "type": 1, "data": np.float32(np.inf).tobytes()}], "NaN or infinity"),
    ],
)
def test_lying_tensors(tensors: list[dict], rule: str) -> None:
    message = pb.Answer(tensors=[pb.AnswerTensor(**tensor) for tensor in tensors])
    with pytest.raises(WireError, match=f"answer.tensors.*{rule}"):
        answer_from_pb(message)


def test_deflated_bytes_can_not_make_the_receiver_allocate_more_than_the_shape_says() -> None:
    bomb = zlib.compress(bytes(2**26))
    assert len(bomb) < 70_000
    lie = pb.Answer(tensors=[pb.AnswerTensor(name="m", type=U8, shape=[512, 512], data=bomb)])
    tracemalloc.start()
    with pytest.raises(WireError, match="do not hold the 262144"):
        answer_from_pb(lie)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_reply_that_no_message_can_hold_is_refused_with_its_size() -> None:
    noise = np.random.default_rng(0).random((1, 21, 120, 120), np.float32)
    with pytest.raises(WireError, match=rf"takes 1\d{{6}} bytes, more than the {MAX_REPLY_BYTES} ") as refused:
        InferReply("f", "w", Answer.of_tensors({"logits": noise})).encode()
    assert "on the edge alone" in refused.value.advice
    classes = noise[0].argmax(0).astype(np.uint8)
    assert len(InferReply("f", "w", Answer.of_tensors({"mask": classes})).encode()) < 20_000


def test_an_answer_with_nan_is_not_sent() -> None:
    bad = Answer(np.full((1, 4), np.nan, F32), np.ones(1, F32), np.zeros(1, np.uint16))
    with pytest.raises(WireError, match="boxes"):
        InferReply("f", "w", bad).encode()
    with pytest.raises(WireError, match="'raw' holds NaN"):
        InferReply("f", "w", Answer.of_tensors({"raw": np.full(3, np.inf, F32)})).encode()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.InferReply(frame_id="f", worker_id="w"), "outcome"),
        (pb.InferReply(frame_id="f", worker_id="w", nack=pb.Nack()), "nack.code"),
        (pb.InferReply(frame_id="f", worker_id="w", nack=pb.Nack(code=11)), "nack.code"),  # type: ignore[arg-type]
        (pb.InferReply(frame_id="f", worker_id="w", nack=pb.Nack(code=1, detail="x" * 501)), "nack.detail"),
        (pb.InferReply(frame_id="f", worker_id="w", nack=pb.Nack(code=1, retry_after_us=2**63)), "retry_after_us"),
        (pb.InferReply(frame_id="", worker_id="w", answer=pb.Answer()), "frame_id"),
        (pb.InferReply(frame_id="f", worker_id="", answer=pb.Answer()), "worker_id"),
        (
            pb.InferReply(frame_id="f", worker_id="w", answer=pb.Answer(), predicted_wait_us=2**60),
            "predicted_wait_us",
        ),
        (
            pb.InferReply(frame_id="f", worker_id="w", answer=pb.Answer(), times=pb.WorkerTimes(service_us=2**63)),
            "times.service_us",
        ),
    ],
)
def test_lying_replies(message: pb.InferReply, field: str) -> None:
    with pytest.raises(WireError, match=field):
        InferReply.decode(message.SerializeToString())


def test_a_refusal_may_lack_the_frame_id_only() -> None:
    reply = InferReply("", "w", Nack(NackCode.BAD_REQUEST, "not a request"))
    assert InferReply.decode(reply.encode()) == reply


def test_a_table_that_was_kept_is_told_without_a_refusal() -> None:
    assert TableReply.decode(TableReply("w").encode()) == TableReply("w")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.Heartbeat(worker_id="a.b"), "worker_id"),
        (pb.Heartbeat(worker_id="w", models=[pb.HostedModel(model="m")]), "model_sha256"),
        (pb.Heartbeat(worker_id="w", models=[pb.HostedModel(model="m", model_sha256=SHA, cuts=[">"])]), "cuts"),
        (pb.Heartbeat(worker_id="w", models=[pb.HostedModel(model="m", model_sha256=SHA, cuts=["c"] * 65)]), "cuts"),
        (pb.Heartbeat(worker_id="w", models=[pb.HostedModel(model="m", model_sha256=SHA)] * 65), "models"),
        (pb.Heartbeat(worker_id="w", queue_depth=2**32 - 1), "queue_depth"),
    ],
)
def test_lying_heartbeats(message: pb.Heartbeat, field: str) -> None:
    with pytest.raises(WireError, match=field):
        Heartbeat.decode(message.SerializeToString())


unit = st.floats(0, 1, width=32)
some_tensor = st.sampled_from([np.float32, np.uint8, np.uint16, np.int32, np.int64]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        elements=unit if dtype is np.float32 else None,
    )
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    n, p = draw(st.integers(0, 20)), draw(st.integers(0, 5))
    return Answer(
        draw(hnp.arrays(np.float32, (n, 4), elements=unit)),
        draw(hnp.arrays(np.float32, n, elements=unit)),
        draw(hnp.arrays(np.uint16, n)),
        draw(hnp.arrays(np.float32, (n, p, 2), elements=unit)),
        draw(st.dictionaries(st.text(min_size=1, max_size=9), some_tensor, max_size=3)),
    )


ids = st.from_regex(r"[A-Za-z0-9_.-]{1,128}", fullmatch=True)
tokens = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
micros = st.integers(0, 86_400_000_000)


@given(ids, tokens, answers(), st.builds(WorkerTimes, micros, micros, micros, micros), micros)
def test_round_trip_of_answers(frame: str, worker: str, answer: Answer, times: WorkerTimes, wait: int) -> None:
    got = InferReply.decode(InferReply(frame, worker, answer, times, wait).encode())
    assert isinstance(got.outcome, Answer) and same(got.outcome, answer)
    assert (got.frame_id, got.worker_id, got.times, got.predicted_wait_us) == (frame, worker, times, wait)


@given(
    st.builds(
        InferRequest,
        ids,
        tokens,
        tokens,
        st.just(SHA),
        st.one_of(st.just(""), tokens),
        st.binary(min_size=1, max_size=500),
        st.booleans(),
        st.integers(0, 600_000_000),
        st.one_of(st.none(), st.just(TRACE)),
    )
)
def test_round_trip_of_requests(request_: InferRequest) -> None:
    assert InferRequest.decode(request_.encode()) == request_


def test_arrays_of_a_decoded_answer_are_its_own() -> None:
    got = answer_from_pb(answer_to_pb(full_answer()))
    got.boxes[0, 0] = 0.5  # a view of the received bytes would be read-only
    assert same(answer_from_pb(answer_to_pb(full_answer())), full_answer())


def test_the_wire_has_exactly_these_codes() -> None:
    assert {c.name: int(c) for c in NackCode} == {
        name.removeprefix("NACK_CODE_"): number for name, number in pb.NackCode.items() if number
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WireError("x"), NackCode.BAD_REQUEST),
        (CodecError("x"), NackCode.BAD_REQUEST),
        (NeedKeyframe("x"), NackCode.NEED_KEYFRAME),
        (NeedTable("x", table_id=b"1234"), NackCode.NEED_TABLE),
        (Overloaded("x"), NackCode.OVERLOADED),
        (FrameShapeError("x"), NackCode.BAD_REQUEST),
        (ModelError("x"), NackCode.UNKNOWN_MODEL),
        (InferenceError("x"), NackCode.INFERENCE_FAILED),
        (MeshError("x"), NackCode.INFERENCE_FAILED),
        (ZeroDivisionError("x"), NackCode.INFERENCE_FAILED),
    ],
)
def test_nack_table(error: Exception, code: NackCode) -> None:
    assert nack_code_for(error) is code


def test_foreign_error_text_stays_inside() -> None:
    assert "secret" not in nack_for(KeyError("secret")).detail
    assert len(nack_for(CodecError("é\udcff" * 400)).detail) == 500
