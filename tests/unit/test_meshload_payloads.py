"""What requests bring: the grammar, what each kind makes, and that stamped requests are what a worker reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from plan_graphs import classifier_manifest, residual_classifier, save

from meshload.payloads import load_payloads
from meshload.payloads.envelope import Envelope, Work
from meshload.payloads.prepared import PayloadError, gathered
from meshload.payloads.spec import Features, Files, Frames, Json, Synthetic, parse_spec
from meshload.target import Payload
from splitmesh.codec.features import decode_features
from splitmesh.codec.picture import decode_picture, encode_picture
from splitmesh.errors import ModelError, SourceError, WireError
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest
from splitmesh.media.clip import read_index, write_test_clip
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.models.registry import resolve_model
from splitmesh.plan.bundle.read import read_bundle
from splitmesh.plan.footage import Footage
from splitmesh.wire.headers import MAX_BUDGET_US, trace_text
from splitmesh.wire.requests import MAX_PAYLOAD_BYTES, InferRequest

SHA = "ab" * 32
TOKENS = st.text("abcXYZ019_-", min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frames:clip.mp4", Frames("clip.mp4")),
        ("frames:", Frames("default")),
        ("frames", Frames("default")),
        ("frames:clip.mp4@webp-40", Frames("clip.mp4", "webp", 40)),
        ("frames:rtsp://me:pw@camera:554/a", Frames("rtsp://me:pw@camera:554/a")),
        ("frames:rtsp://me:pw@camera/a@jpeg-7", Frames("rtsp://me:pw@camera/a", "jpeg", 7)),
        ("features:x.plan:split/n37/u8lz4-8", Features("x.plan", "split/n37/u8lz4-8", "default")),
        ("features:default:split/n37/compact-83@v.mp4", Features("default", "split/n37/compact-83", "v.mp4")),
        ("file:pictures/*.jpg", Files("pictures/*.jpg")),
        ('json:{"a": "@b:c"}', Json(text='{"a": "@b:c"}')),
        ("json:@x:y.json", Json(file="x:y.json")),
        ("synthetic", Synthetic("random", 128)),
        ("synthetic:4k", Synthetic("random", 4000)),
        ("synthetic:64KiB:zeros", Synthetic("zeros", 65536)),
        ("synthetic:zeros", Synthetic("zeros", 128)),
        ("synthetic:picture", Synthetic("picture")),
        ("synthetic:640x480:picture", Synthetic("picture", width=640, height=480)),
    ],
)
def test_a_payload_is_written_so(text: str, expected: object) -> None:
    assert parse_spec(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "video:x",
            "features:x.plan",
            "features:x.plan:n37",
            "file:",
            "json:",
            "json:@",
            "synthetic:much",
            "synthetic:-1",
        ),
        *("synthetic:1GB", "synthetic:8x8:picture", "synthetic:10:picture", "synthetic:10:noise"),
    ],
)
def test_what_is_not_understood_says_how_it_is_written(text: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parse_spec(text)
    assert caught.value.spec == text
    assert caught.value.advice


@given(
    edge=TOKENS,
    run=TOKENS,
    seq=st.integers(0, 10**18 - 1),
    model=TOKENS,
    cut=TOKENS | st.just(""),
    payload=st.binary(min_size=1, max_size=4000),
    budget_us=st.integers(0, MAX_BUDGET_US),
    trace=st.binary(min_size=25, max_size=25) | st.just(b""),
    stream=st.just(0) | st.integers(1, 2**32 - 1),
)
def test_a_stamped_request_is_the_one_that_an_edge_would_send(
    edge: str, run: str, seq: int, model: str, cut: str, payload: bytes, budget_us: int, trace: bytes, stream: int
) -> None:
    frame_id = f"{edge}.{run}.{seq}"
    envelope = Envelope(Work(model, SHA, cut), payload)
    raw = envelope.stamp(frame_id, budget_us=budget_us, trace=trace, stream=stream)
    sent = InferRequest(
        frame_id, edge, model, SHA, cut, payload, False, budget_us, trace_text(trace) if trace else None, stream
    )
    assert InferRequest.decode(raw) == sent
    if trace_text(trace) or not trace:
        assert len(raw) == len(sent.encode())


@given(edge=TOKENS, other=TOKENS)
def test_another_edge_than_the_frame_ids_first_part_can_be_named(edge: str, other: str) -> None:
    raw = Envelope(Work("m", SHA), b"x").stamp(f"{edge}.r.1", budget_us=0, edge_id=other)
    assert InferRequest.decode(raw).edge_id == other


@pytest.mark.parametrize(("asked", "sent"), [(-5, 0), (0, 0), (MAX_BUDGET_US + 1, MAX_BUDGET_US)])
def test_a_budget_stays_within_what_the_wire_allows(asked: int, sent: int) -> None:
    assert InferRequest.decode(Envelope(Work("m", SHA), b"x").stamp("e.r.1", budget_us=asked)).budget_us == sent


def test_what_no_worker_would_take_is_refused_before_it_is_sent() -> None:
    with pytest.raises(WireError, match="payload"):
        Envelope(Work("m", SHA), b"")
    with pytest.raises(WireError, match="payload"):
        Envelope(Work("m", SHA), bytes(MAX_PAYLOAD_BYTES + 1))
    with pytest.raises(WireError, match="model_sha256"):
        Work("m", "00")
    with pytest.raises(WireError, match="25"):
        Envelope(Work("m", SHA), b"x").stamp("e.r.1", budget_us=1, trace=b"short")


def test_no_more_is_held_than_the_limit_and_the_note_says_so() -> None:
    made = [Payload(bytes(size), raw=bytes(10)) for size in (90, 190, 290)]
    kept = gathered(made, spec="s", what="things", limit_bytes=300)
    assert [len(payload.data) for payload in kept] == [90, 190]
    assert "2 payloads of 90 to 190 bytes, 140 on average" in kept.note
    assert "left out" in kept.note
    assert "left out" not in gathered(made, spec="s", what="things", limit_bytes=600).note


@pytest.mark.parametrize(("sizes", "says"), [((), "there are none"), ((400,), "larger than the limit")])
def test_without_a_single_payload_there_is_an_error(sizes: tuple[int, ...], says: str) -> None:
    with pytest.raises(PayloadError, match=says):
        gathered([Payload(bytes(size)) for size in sizes], spec="s", what="things", limit_bytes=300)


def test_synthetic_bytes_have_their_size_and_are_the_same_every_time() -> None:
    (random,), (again,) = load_payloads("synthetic:4k"), load_payloads("synthetic:4k")
    (zeros,) = load_payloads("synthetic:512:zeros")
    assert len(random.data) == 4000 and random.data == again.data and len(set(random.data)) > 200
    assert zeros.data == bytes(512)


def test_synthetic_pictures_have_the_models_size_unless_another_is_asked_for() -> None:
    model = resolve_model(None)
    manifest = model.manifest
    for spec, size in (("picture", (manifest.height, manifest.width)), ("64x32:picture", (32, 64))):
        made = load_payloads(f"synthetic:{spec}")
        assert len({payload.data for payload in made}) == len(made) == 16
        assert [read_index(decode_picture(payload.data, expect=size)) for payload in made] == list(range(16))
        assert made[0].model_sha256 == model.sha256


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_test_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=12)


def first_frames(clip: Path, count: int) -> list[np.ndarray]:
    preparer = Preparer.from_manifest(resolve_model(None).manifest)
    with open_source(clip, pace=False) as source:
        pictures = [source.next(20) for _ in range(count)]
        return [preparer.prepare(captured.picture).rgb for captured in pictures if captured and captured.picture]


def test_frames_are_what_an_edge_sends_and_their_files_are_pictures(clip: Path) -> None:
    made = load_payloads(f"frames:{clip}@jpeg-70", limit_frames=5)
    expected = [encode_picture(rgb, quality=70) for rgb in first_frames(clip, 5)]
    assert [payload.data for payload in made] == expected
    assert len(set(expected)) == 5
    jpeg = made[3].body
    assert simplejpeg.is_jpeg(jpeg) and len(jpeg) < len(made[3].data)
    assert made[0].content_type == "image/jpeg" and made[0].model == resolve_model(None).manifest.name
    assert "jpeg-70: 5 payloads" in made.note


def test_a_short_video_gives_all_that_it_has(clip: Path) -> None:
    assert len(load_payloads(f"frames:{clip}@webp-50")) == 12


@pytest.mark.parametrize(
    ("codec", "says"),
    [("h264-30", "acknowledged"), ("nope-3", "known"), ("jpeg-0", "1 … 100"), ("roijpeg-60", "no edge")],
)
def test_codecs_that_frames_can_not_have_say_why(codec: str, says: str, clip: Path) -> None:
    with pytest.raises(PayloadError, match=says):
        load_payloads(f"frames:{clip}@{codec}")


def test_a_video_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match=r"nothing\.mp4"):
        load_payloads("frames:nothing.mp4")


def test_files_are_sent_as_they_are_in_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"second")
    (tmp_path / "a.bin").write_bytes(b"first")
    (tmp_path / "folder").mkdir()
    made = load_payloads(f"file:{tmp_path}/*")
    assert [(payload.data, payload.content_type) for payload in made] == [
        (b"first", "application/octet-stream"),
        (b"second", "image/jpeg"),
    ]
    with pytest.raises(PayloadError, match="there are none"):
        load_payloads(f"file:{tmp_path}/*.png")
    with pytest.raises(PayloadError, match=r"a\.bin is larger"):
        load_payloads(f"file:{tmp_path}/*", limit_bytes=3)


def test_a_document_is_sent_as_it_is_written_and_must_be_json(tmp_path: Path) -> None:
    file = tmp_path / "frame.json"
    file.write_text('{"name":  "é"}', encoding="utf-8")
    (given,), (read,) = load_payloads('json:{"a": [1, 2]}'), load_payloads(f"json:@{file}")
    assert (given.body, given.content_type) == (b'{"a": [1, 2]}', "application/json")
    assert read.body == '{"name":  "é"}'.encode() and read.content_type == "application/json"
    (tmp_path / "no.json").write_bytes(b'{"a": \xff}')
    for wrong, says in (("{'a': 1}", "no JSON"), (f"@{tmp_path}/no.json", "no JSON"), (f"@{tmp_path}", "be read")):
        with pytest.raises(PayloadError, match=says):
            load_payloads(f"json:{wrong}")


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ("split/n37/temporal-80", "without state"),
        ("split/n37/jpeg-80", "not the tensors"),
        ("split/n37/u8zstd-99", "3 … 8"),
        ("frame/jpeg-80", "frames:@jpeg-80"),
        ("split/N37/u8zstd-8", "no operating point"),
    ],
)
def test_points_that_can_not_be_made_frame_by_frame_say_what_to_do(point: str, says: str) -> None:
    with pytest.raises(PayloadError, match=says):
        load_payloads(f"features:nowhere.plan:{point}")


def test_a_plan_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match=r"nowhere\.plan"):
        load_payloads("features:nowhere.plan:split/n37/u8zstd-8")


def test_decoded_features_have_the_cuts_shapes(feature_plan: Path, clip: Path) -> None:
    bundle = read_bundle(feature_plan)
    cut = bundle.cuts[0]
    made = load_payloads(f"features:{feature_plan}:split/{cut.name}/u8zstd-8@{clip}", limit_frames=3)
    decoded = [decode_features(payload.data, expect=cut.shapes) for payload in made]
    assert len(decoded) == 3 and made[0].cut == cut.name and made[0].model_sha256 == bundle.sha256
    name = next(iter(cut.shapes))
    assert not np.array_equal(decoded[0][name], decoded[2][name])
    with pytest.raises(PayloadError, match="no cut"):
        load_payloads(f"features:{feature_plan}:split/n9999/u8zstd-8@{clip}")
    with pytest.raises(PayloadError, match="table"):
        load_payloads(f"features:{feature_plan}:split/{cut.name}/compact-80@{clip}")


@pytest.fixture(scope="module")
def feature_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    model = save(residual_classifier(), folder / "model.onnx")
    make_plan(PlanRequest(model, classifier_manifest()), Footage(), folder / "tiny.plan", lambda *_: None)
    return folder / "tiny.plan"
