"""What HTTP targets decide without a socket: header fields, classes of answers, GOAWAY frames among others."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, PingFrame
from hypothesis import given
from hypothesis import strategies as st

from meshload.errors import TargetError
from meshload.target import Payload, Status
from meshload.targets import TargetOptions, split
from meshload.targets.http2_goaway import FrameTooLong, Goaway, GoawayFilter
from meshload.targets.http_request import answered, read_request


def asks(url: str, *headers: tuple[str, str], method: str = "POST") -> tuple[str, str, list[tuple[str, str]]]:
    found = read_request(url, split(url), TargetOptions(headers=headers, method=method))
    return found.authority, found.path, found.fields(Payload(b"abc", content_type="image/png"))


LENGTH, KIND = ("Content-Length", "3"), ("Content-Type", "image/png")


@pytest.mark.parametrize(
    ("url", "headers", "authority", "path", "fields"),
    [
        ("http://h:8/a?b=c", (), "h:8", "/a?b=c", [LENGTH, KIND]),
        ("http://h", (("X", "y"),), "h", "/", [("X", "y"), LENGTH, KIND]),
        ("http://h/a b/ü%20?q=ä b", (), "h", "/a%20b/%C3%BC%20?q=%C3%A4%20b", [LENGTH, KIND]),
        ("http://h/", (("host", "other"),), "other", "/", [LENGTH, KIND]),
        ("http://h/", (("CONTENT-type", "a/b"),), "h", "/", [("CONTENT-type", "a/b"), LENGTH]),
        ("http://u:p%40@h/", (), "h", "/", [("Authorization", "Basic dTpwQA=="), LENGTH, KIND]),
        ("http://u:p@h/", (("authorization", "mine"),), "h", "/", [("authorization", "mine"), LENGTH, KIND]),
    ],
)
def test_what_requests_say(
    url: str, headers: tuple[tuple[str, str], ...], authority: str, path: str, fields: list[tuple[str, str]]
) -> None:
    assert asks(url, *headers) == (authority, path, fields)


def test_get_has_no_body_and_says_nothing_of_one() -> None:
    assert asks("http://h/", method="get")[2] == []


@pytest.mark.parametrize(
    "header", [("X Y", "z"), ("", "z"), ("X", "a\r\nY: b"), ("X", "☃"), ("Transfer-Encoding", "chunked")]
)
def test_headers_that_can_not_be_sent_are_refused(header: tuple[str, str]) -> None:
    with pytest.raises(TargetError, match="header"):
        asks("http://h/", header)


@pytest.mark.parametrize("url", ["http://a..b/", "http://h:0/", "http://h:99999/", f"http://{'a' * 70}.de/"])
def test_hosts_and_ports_that_can_not_be(url: str) -> None:
    with pytest.raises(TargetError, match="is no URL"):
        split(url)


@pytest.mark.parametrize(
    ("code", "status", "label"),
    [
        (200, Status.OK, ""),
        (304, Status.OK, ""),
        (404, Status.ERROR, "http 404"),
        (429, Status.REFUSED, "http 429"),
        (503, Status.REFUSED, "http 503"),
        (500, Status.ERROR, "http 500"),
    ],
)
def test_classes_of_answers(code: int, status: Status, label: str) -> None:
    assert answered(code, 7) == (status, label, 7, None)


FRAMES = st.lists(
    st.one_of(
        st.builds(lambda n: DataFrame(1, data=bytes(n)), st.integers(0, 40)),
        st.builds(lambda n: PingFrame(0, opaque_data=bytes([n] * 8)), st.integers(0, 255)),
        st.builds(
            lambda last, code, text: GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=text),
            st.integers(0, 2**31 - 1),
            st.integers(0, 13),
            st.binary(max_size=20),
        ),
    ),
    max_size=12,
)


@given(FRAMES, st.lists(st.integers(1, 30), min_size=1))
def test_goaways_are_taken_out_and_all_else_passes_in_order(frames: list[Frame], cuts: list[int]) -> None:
    data, at, number = b"".join(frame.serialize() for frame in frames), 0, 0
    goaways, found = GoawayFilter(), []
    while at < len(data):
        size = cuts[number % len(cuts)]
        found += goaways.feed(data[at : at + size])
        at, number = at + size, number + 1
    assert b"".join(piece for piece in found if isinstance(piece, bytes)) == b"".join(
        frame.serialize() for frame in frames if not isinstance(frame, GoAwayFrame)
    )
    expected = [(frame.last_stream_id, frame.error_code) for frame in frames if isinstance(frame, GoAwayFrame)]
    assert [piece for piece in found if isinstance(piece, Goaway)] == expected


def test_frames_around_a_goaway_keep_their_side_of_it() -> None:
    before, after = (
        PingFrame(0, opaque_data=b"before!!").serialize(),
        PingFrame(0, opaque_data=b"after!!!").serialize(),
    )
    goaway = GoAwayFrame(0, last_stream_id=5, error_code=11).serialize()
    assert GoawayFilter().feed(before + goaway + after) == [before, Goaway(5, 11), after]


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {}\r\n", b"SSH-2.0-x\r\n"])
def test_what_is_no_http2_is_seen_by_its_first_bytes(said: bytes) -> None:
    with pytest.raises(FrameTooLong):
        GoawayFilter().feed(said)


def test_a_goaway_too_short_is_left_to_h2() -> None:
    said = b"\0\0\x04\x07\0\0\0\0\0abcd"
    assert GoawayFilter().feed(said) == [said]
