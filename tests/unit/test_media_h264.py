"""The H.264 stream: one picture in, the same one out; what is missing, damaged or hostile is never shown as right."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.codec.container import Section, build, parse
from splitmesh.codec.picture import encode_picture
from splitmesh.errors import CodecError, NeedKeyframe
from splitmesh.media.annexb import check_frame, split, without_extras
from splitmesh.media.clip import draw_picture, read_index
from splitmesh.media.h264 import Coded, H264Coder, H264Decoder, H264Encoder, has_h264

GOLDEN = Path(__file__).parents[1] / "golden" / "codec"
SIZE = (96, 131)
STREAM = 0xC0FFEE


def picture(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return draw_picture(index, width=size[1], height=size[0])


def coded(count: int, *, level: int = 24, keys: tuple[int, ...] = (), intra: bool = False) -> list[Coded]:
    encoder = H264Encoder(SIZE, level=level, intra=intra, stream=STREAM)
    return [encoder.encode(picture(index), key=index in keys) for index in range(count)]


def payload(data: bytes, number: int, *, key: bool, stream: int = STREAM) -> bytes:
    return build("h264", 24, [Section("", (*SIZE, 3), int(key), struct.pack("<II", stream, number), data)])


def data_of(one: Coded) -> bytes:
    return bytes(parse(one.payload).sections[0].data)


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def test_each_picture_comes_out_at_once_and_is_its_own() -> None:
    decoder = H264Decoder()
    for number, one in enumerate(coded(30)):
        out = decoder.decode(one.payload, expect=SIZE)
        assert read_index(out) == one.number == number
        assert out.shape == (*SIZE, 3) and out.dtype == np.uint8 and out.flags.c_contiguous
        assert error(out, picture(number)) < 4
    assert decoder.state_bytes > 0


def test_only_the_first_is_a_key_until_one_is_asked_for() -> None:
    assert [one.key for one in coded(40, keys=(7, 8))] == [n in (0, 7, 8) for n in range(40)]
    assert all(one.key for one in coded(5, intra=True))
    inter, intra = coded(20), coded(20, intra=True)
    assert sum(len(one.payload) for one in inter) < 0.6 * sum(len(one.payload) for one in intra)


def test_levels_order_size_and_error() -> None:
    sizes, errors = [], []
    for level in (0, 12, 24, 36, 51):
        coder = H264Coder(level, SIZE)
        payloads = [coder.encode(picture(index)) for index in range(6)]
        sizes.append(sum(map(len, payloads)))
        errors.append(error([coder.decode(each) for each in payloads][-1], picture(5)))
        assert parse(payloads[0]).level == coder.level == level and coder.codec == "h264"
    assert sizes == sorted(sizes, reverse=True) and errors == sorted(errors)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (15, 16), (17, 33), (240, 321), (33, 500)])
def test_odd_sizes_keep_their_geometry_and_colours(size: tuple[int, int]) -> None:
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    ramp = np.stack([np.minimum(3 * x, 240), np.minimum(3 * y, 240), np.full(size, 90)], axis=2).astype(np.uint8)
    coder = H264Coder(8, size)
    for _ in range(3):
        out = coder.decode(coder.encode(ramp))
        assert out.shape == ramp.shape
        assert np.abs(out.astype(int) - ramp).max() <= 8 and error(out, ramp) < 2


def test_saturated_colours_survive() -> None:
    for color in [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)]:
        flat = np.full((32, 32, 3), color, np.uint8)
        coder = H264Coder(10, (32, 32))
        assert np.abs(coder.decode(coder.encode(flat)).astype(int) - flat).max() <= 4


def test_a_lost_frame_needs_a_key_and_a_key_recovers() -> None:
    stream = coded(9, keys=(6,))
    decoder = H264Decoder()
    for number in (0, 1, 2):
        decoder.decode(stream[number].payload, expect=SIZE)
    for late_or_missing in (4, 1, 2, 5, 0 + 4):
        with pytest.raises(NeedKeyframe):
            decoder.decode(stream[late_or_missing].payload, expect=SIZE)
    assert read_index(decoder.decode(stream[3].payload, expect=SIZE)) == 3, "what it held is still right"
    assert read_index(decoder.decode(stream[6].payload, expect=SIZE)) == 6
    assert read_index(decoder.decode(stream[7].payload, expect=SIZE)) == 7


@pytest.mark.parametrize("state", ["fresh", "reset", "closed", "other stream", "other size"])
def test_what_builds_on_another_stream_needs_a_key(state: str) -> None:
    decoder = H264Decoder()
    stream = coded(3)
    if state != "fresh":
        decoder.decode(stream[0].payload, expect=SIZE)
    other = H264Encoder(SIZE, level=24, stream=STREAM + 1)
    second = [other.encode(picture(n)) for n in range(2)][1] if state == "other stream" else stream[1]
    if state == "reset":
        decoder.reset()
    elif state == "closed":
        decoder.close()
    elif state == "other size":
        decoder.decode(H264Coder(30, (40, 40)).encode(picture(0, (40, 40))), expect=(40, 40))
    with pytest.raises(NeedKeyframe):
        decoder.decode(second.payload, expect=SIZE)


def test_streams_are_named_at_random_and_anew_after_reset_and_for_another_level() -> None:
    encoder = H264Encoder(SIZE, level=30)

    def side_of(one: Coded) -> tuple[int, int, int]:
        section = parse(one.payload).sections[0]
        return (*struct.unpack("<II", section.side), section.mode)

    first, second = (side_of(encoder.encode(picture(n))) for n in range(2))
    assert second == (first[0], 1, 0) and first[1:] == (0, 1)
    same_level = side_of(encoder.encode(picture(2), level=30))
    assert same_level == (first[0], 2, 0)
    coarser = encoder.encode(picture(3), level=40)
    assert side_of(coarser)[0] != first[0] and side_of(coarser)[1:] == (0, 1)
    assert parse(coarser.payload).level == encoder.level == 40
    encoder.reset()
    assert side_of(encoder.encode(picture(4)))[1:] == (0, 1)
    assert H264Encoder(SIZE, level=30).encode(picture(0)).payload[-500:] == coded(1, level=30)[0].payload[-500:]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda data: b"", "no H.264|not one slice"),
        (lambda data: data[:-1] + data, "not one slice"),
        (lambda data: data + b"\0\0\1\x06\x01\x02", "not one slice"),
        (lambda data: data.replace(b"\0\0\1\x65", b"\0\0\1\x41", 1), "NAL units"),
        (lambda data: data[: len(data) // 2], "decoded|damaged"),
        (lambda data: data + bytes(200_000), "too many"),
        (lambda data: b"junk" + data, "no H.264"),
    ],
)
def test_keys_that_are_none_are_refused(spoil: Callable[[bytes], bytes], complaint: str) -> None:
    decoder = H264Decoder()
    stream = coded(2)
    decoder.decode(stream[0].payload, expect=SIZE)
    with pytest.raises(CodecError, match=complaint):
        decoder.decode(payload(spoil(data_of(stream[0])), 0, key=True), expect=SIZE)


def test_after_a_damaged_frame_only_a_key_helps() -> None:
    stream = coded(6, keys=(4,))
    decoder = H264Decoder()
    for number in (0, 1):
        decoder.decode(stream[number].payload, expect=SIZE)
    damaged = bytearray(data_of(stream[2]))
    damaged[len(damaged) // 3 :] = damaged[len(damaged) // 3 : len(damaged) // 2]
    with pytest.raises(CodecError, match=r"decoded|damaged"):
        decoder.decode(payload(bytes(damaged), 2, key=False), expect=SIZE)
    assert decoder.state_bytes == 0
    for number in (2, 3):
        with pytest.raises(NeedKeyframe):
            decoder.decode(stream[number].payload, expect=SIZE)
    assert read_index(decoder.decode(stream[4].payload, expect=SIZE)) == 4


def test_a_stream_of_another_size_or_kind_is_refused_before_it_is_decoded() -> None:
    large = H264Encoder((1080, 1920), level=40).encode(np.zeros((1080, 1920, 3), np.uint8))
    with pytest.raises(CodecError, match="1920×1080, expected 132×96"):
        H264Decoder().decode(payload(data_of(large), 0, key=True), expect=SIZE)
    with pytest.raises(CodecError, match="is not 8 bits"):
        H264Decoder().decode(payload(foreign("yuv444p"), 0, key=True), expect=SIZE)
    with pytest.raises(CodecError, match="references"):
        H264Decoder().decode(payload(foreign("yuv420p", refs="9"), 0, key=True), expect=SIZE)
    with pytest.raises(CodecError, match="whole frames"):
        H264Decoder().decode(payload(foreign("yuv420p", **{"x264-params": "tff=1"}), 0, key=True), expect=SIZE)
    with pytest.raises(CodecError, match=r"H\.264 frame"):
        H264Decoder().decode(encode_and_relabel(), expect=SIZE)


def foreign(pix_fmt: str, **options: str) -> bytes:
    """The first frame of a stream that x264 makes with other settings."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.thread_count = SIZE[1] + 1, SIZE[0], pix_fmt, 1
    context.options = {"preset": "veryfast", "tune": "zerolatency"} | options
    frame = av.VideoFrame.from_ndarray(picture(0, (SIZE[0], SIZE[1] + 1)), format="rgb24").reformat(format=pix_fmt)
    return without_extras(bytes(context.encode(frame)[0]))


@pytest.mark.parametrize(("says_so", "shown"), [(True, 0), (False, 1)])
def test_a_stream_that_reorders_is_refused_before_it_shows_an_older_picture(says_so: bool, shown: int) -> None:
    packets = reordered()
    first = packets[0] if says_so else without_hints(packets[0])
    decoder = H264Decoder()
    if shown:
        assert read_index(decoder.decode(payload(first, 0, key=True), expect=SIZE)) == 0
    with pytest.raises(CodecError, match="gave 0 pictures"):
        decoder.decode(payload([first, *packets[1:]][shown], shown, key=not shown), expect=SIZE)
    with pytest.raises(NeedKeyframe):
        decoder.decode(payload(packets[shown + 1], shown + 1, key=False), expect=SIZE)


def reordered() -> list[bytes]:
    """Frames of a stream with B-frames, in the order in which they are decoded."""
    size = (SIZE[0], SIZE[1] + 1)
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.thread_count = size[1], size[0], "yuv420p", 1
    context.max_b_frames, context.options = 3, {"preset": "veryfast", "b-adapt": "0", "refs": "2"}
    packets = []
    for index in range(9):
        frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24").reformat(format="yuv420p")
        frame.pts = index
        packets += context.encode(frame)
    packets += context.encode(None)
    assert [packet.pts for packet in packets] != sorted(packet.pts for packet in packets)
    return [without_extras(bytes(packet)) for packet in packets]


def without_hints(key: bytes) -> bytes:
    """A key whose sequence parameter set ends after the size, so that it does not say how far the stream reorders."""
    sequence, *rest = split(key)
    clean = sequence[1:].replace(b"\0\0\3", b"\0\0")
    bits = "".join(f"{byte:08b}" for byte in clean)
    for length in range(40, len(bits)):
        ended = bits[:length] + "01"  # no usability information; the end mark
        ended += "0" * (-len(ended) % 8)
        units = [sequence[:1] + int(ended, 2).to_bytes(len(ended) // 8), *rest]
        frame = b"".join(b"\0\0\1" + unit for unit in units)
        try:
            check_frame(frame, key=True, width=SIZE[1] + 1, height=SIZE[0])
        except CodecError:
            continue
        return frame
    raise AssertionError("no size in the parameter set")


def encode_and_relabel() -> bytes:
    section = parse(encode_picture(picture(0), quality=50)).sections[0]
    return build("h264", 24, [Section("", section.shape, 0, b"", section.data)])


def test_other_codecs_payloads_are_refused() -> None:
    with pytest.raises(CodecError, match="'jpeg', not with h264"):
        H264Decoder().decode(encode_picture(picture(0), quality=50), expect=SIZE)
    with pytest.raises(CodecError, match="132×96"):
        H264Decoder().decode(coded(1)[0].payload, expect=(96, 132))


@settings(max_examples=300)
@given(
    number=st.integers(0, 2),
    edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255), st.integers(0, 4)), min_size=1, max_size=6),
)
def test_hostile_frames_decode_to_the_expected_shape_or_leave_no_state(
    number: int, edits: list[tuple[int, int, int]]
) -> None:
    data = bytearray(data_of(STREAM_OF_FOUR[number]))
    for at, value, cut in edits:
        data[at % len(data)] = value
        del data[at % len(data) : at % len(data) + cut]
        data = data or bytearray(1)
    decoder = H264Decoder()
    for one in STREAM_OF_FOUR[:number]:
        decoder.decode(one.payload, expect=SIZE)
    try:
        out = decoder.decode(payload(bytes(data), number, key=number == 0), expect=SIZE)
    except CodecError:
        assert decoder.state_bytes == 0
        with pytest.raises(NeedKeyframe):
            decoder.decode(STREAM_OF_FOUR[number + 1].payload, expect=SIZE)
    else:
        assert out.shape == (*SIZE, 3)


STREAM_OF_FOUR = coded(4) if has_h264() else []


@pytest.mark.parametrize(
    "rgb", [np.zeros((96, 130, 3), np.uint8), np.zeros((*SIZE, 3), np.float32), np.zeros(SIZE, np.uint8)]
)
def test_what_is_no_picture_of_the_streams_size_is_refused(rgb: np.ndarray) -> None:
    with pytest.raises(CodecError, match="expected"):
        H264Encoder(SIZE, level=24).encode(rgb)


@pytest.mark.parametrize(("size", "level"), [((0, 4), 20), ((4, 5000), 20), (SIZE, -1), (SIZE, 52)])
def test_sizes_and_levels_out_of_range(size: tuple[int, int], level: int) -> None:
    with pytest.raises(CodecError, match="outside"):
        H264Encoder(size, level=level)


def test_a_build_without_x264_is_known_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_h264()
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    assert not has_h264()
    with pytest.raises(CodecError, match="libx264"):
        H264Encoder(SIZE, level=24)


def test_parameter_sets_are_read_to_the_bit() -> None:
    data = data_of(coded(1)[0])
    assert [unit[0] & 31 for unit in split(data)] == [7, 8, 5]
    check_frame(data, key=True, width=132, height=96)
    for width, height in ((131, 96), (132, 98), (144, 96)):
        with pytest.raises(CodecError, match="132×96"):
            check_frame(data, key=True, width=width, height=height)
    sequence, rest = split(data)[0], b"".join(b"\0\0\1" + unit for unit in split(data)[1:])
    for length in range(1, len(sequence)):
        short = b"\0\0\1" + sequence[:length].rstrip(b"\0") + rest
        try:
            check_frame(short, key=True, width=132, height=96)
        except CodecError:
            continue
        assert length > 8, "so short a parameter set holds no size"


def test_golden_stream_still_decodes() -> None:
    decoder = H264Decoder()
    for index, name in enumerate(("key", "next", "last")):
        out = decoder.decode((GOLDEN / f"h264-24-{name}.bin").read_bytes(), expect=SIZE)
        assert read_index(out) == index and error(out, picture(index)) < 4
