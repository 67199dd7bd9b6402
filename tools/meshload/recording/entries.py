"""Owns what a recording says: requests as they crossed the bus, when, and by whom. Pure, but for `Recording`'s reads.

A request is kept as the protobuf that it was, with or without its payload. One that builds on earlier ones of its
stream (`splitmesh.wire.requests.StreamRequest`) names neither model nor edge: those of the request that opened the
stream are its too.
"""

from __future__ import annotations

import json
import struct
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from meshload.recording.layout import END, HEAD, REQUEST, RecordingError, read_chunks
from splitmesh.errors import WireError
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire.packing import pack, parse
from splitmesh.wire.requests import InferRequest, decode_request
from splitmesh.wire.subjects import check_token

MAX_OPEN_STREAMS: Final = 65_536
"""Of which is remembered who opened them; the least recently used are forgotten."""
_ENTRY: Final = struct.Struct("<QI")


class Asked(NamedTuple):
    """One recorded request."""

    at_ns: int
    """Since the recording began."""
    edge: str
    """"" and no model: it builds on a payload from before the recording."""
    model: str
    model_sha256: str
    cut: str
    budget_us: int
    payload: bytes
    """b"" where payloads were not kept."""
    payload_bytes: int
    stream: int
    """Of payloads that build on each other; 0: none."""
    follows: bool
    """Builds on earlier payloads of `stream`, and says so: it was sent in the short form."""


def entry(at_ns: int, raw: bytes, headers: Mapping[str, str], *, keep_payload: bool) -> bytes:
    """The body of a request's chunk. raw: the message; headers: those of an older edge.

    Raises WireError for what is no request.
    """
    request = decode_request(raw, headers)
    older = bool(headers) and isinstance(request, InferRequest)
    message = parse(pb.InferRequest, request.encode() if older else raw)
    size = len(message.payload)
    if not keep_payload:
        message.ClearField("payload")
    return _ENTRY.pack(at_ns, size) + pack(message)


class Openers:
    """Who opened which stream, as far as the recording has gone."""

    def __init__(self) -> None:
        self._opened: OrderedDict[int, tuple[str, str, str, str]] = OrderedDict()

    def read(self, body: bytes) -> Asked:
        """The request of a chunk's body; to be called in the order of the file. Raises WireError for no such body."""
        if len(body) < _ENTRY.size:
            raise WireError(f"an entry of {len(body)} bytes")
        at_ns, size = _ENTRY.unpack_from(body)
        m = parse(pb.InferRequest, body[_ENTRY.size :])
        follows = not m.frame_id
        if follows:
            whose = self._opened.get(m.stream, ("", "", "", ""))
            if whose[0]:
                self._opened.move_to_end(m.stream)
        else:
            edge = check_token(m.edge_id or m.frame_id.partition(".")[0], field="edge_id")
            whose = (edge, m.model, m.model_digest.hex() or m.model_sha256, m.cut)
            if m.stream:
                self._remember(m.stream, whose)
        return Asked(at_ns, *whose, m.budget_us, m.payload, size, m.stream, follows)

    def _remember(self, stream: int, whose: tuple[str, str, str, str]) -> None:
        self._opened[stream] = whose
        self._opened.move_to_end(stream)
        if len(self._opened) > MAX_OPEN_STREAMS:
            self._opened.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Head:
    """How a recording was made."""

    tenant: str
    payloads: bool
    """They were kept."""
    started: str
    """When, for people."""

    def to_bytes(self) -> bytes:
        return json.dumps({"tenant": self.tenant, "payloads": self.payloads, "started": self.started}).encode()


@dataclass(frozen=True, slots=True)
class End:
    """How a recording ended."""

    duration_ns: int
    requests: int
    why: str
    """"time", "limit", "interrupted", or why the broker was lost; of a file without end "cut short"."""
    unreadable: int = 0
    """Messages on the subjects that were no requests."""

    def to_bytes(self) -> bytes:
        facts = {"duration_ns": self.duration_ns, "requests": self.requests, "why": self.why}
        return json.dumps(facts | {"unreadable": self.unreadable}).encode()


@dataclass(slots=True)
class Survey:
    """What is in a recording, all of it read and checked. Counts are of requests that can be asked again."""

    head: Head
    end: End
    works: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests by (model, cut)."""
    orphans: int = 0
    """Requests that build on payloads from before the recording: they can't be asked again."""
    edges: set[str] = field(default_factory=set)
    budgets_us: tuple[int, int] = (0, 0)
    """Lowest and highest."""
    payload_bytes: int = 0
    on_streams: int = 0
    """Requests whose payloads build on each other."""

    def count(self, asked: Asked) -> None:
        if not asked.model:
            self.orphans += 1
            return
        self.works[asked.model, asked.cut] += 1
        self.edges.add(asked.edge)
        self.payload_bytes += asked.payload_bytes
        self.on_streams += asked.stream != 0
        low, high = self.budgets_us if self.works.total() > 1 else (asked.budget_us, asked.budget_us)
        self.budgets_us = (min(low, asked.budget_us), max(high, asked.budget_us))


class Recording:
    """A recorded file. Every read checks what it reads; all raise RecordingError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def requests(self) -> Iterator[Asked]:
        """All of them, in order; holds one at a time."""
        openers = Openers()
        for kind, body in read_chunks(self.path):
            if kind == REQUEST:
                yield self._read(openers, body)

    def survey(self) -> Survey:
        """Reads the whole file."""
        openers, head, found, count, last_ns = Openers(), None, None, 0, 0
        for kind, body in read_chunks(self.path):
            if kind == HEAD:
                head = self._head(body)
                found = Survey(head, End(0, 0, "cut short"))
            elif found and kind == REQUEST:
                asked = self._read(openers, body)
                found.count(asked)
                count, last_ns = count + 1, asked.at_ns
            elif found and kind == END:
                found.end = self._end(body)
        if found is None:
            raise RecordingError(self.path, "holds nothing")
        if found.end.why == "cut short":
            found.end = End(last_ns + 1, count, "cut short")
        elif found.end.requests != count:
            raise RecordingError(self.path, f"holds {count} requests and says {found.end.requests}")
        return found

    def _read(self, openers: Openers, body: bytes) -> Asked:
        try:
            return openers.read(body)
        except WireError as exc:
            raise RecordingError(self.path, f"holds what is no request: {exc.message}") from exc

    def _head(self, body: bytes) -> Head:
        try:
            found = json.loads(body)
            return Head(str(found["tenant"]), bool(found["payloads"]), str(found["started"]))
        except (ValueError, KeyError, TypeError) as exc:
            raise RecordingError(self.path, f"its head can't be read: {exc}") from exc

    def _end(self, body: bytes) -> End:
        try:
            found = json.loads(body)
            return End(int(found["duration_ns"]), int(found["requests"]), str(found["why"]), int(found["unreadable"]))
        except (ValueError, KeyError, TypeError) as exc:
            raise RecordingError(self.path, f"its end can't be read: {exc}") from exc
