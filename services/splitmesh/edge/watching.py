"""Owns what of an edge is being watched, until when, and how much of the uplink that may take: frames come first.

Leases and settled frames go in with `now_ns`, what may be sent comes out. Holds no clock and sends nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from splitmesh.edge.recall import Settled
from splitmesh.errors import WireError
from splitmesh.wire.control import BadField, FrameReport, WatchRequest
from splitmesh.wire.frame_reports import frame_report

MAX_LEASES = 32
DEFAULT_BYTES_PER_S = 125_000
DEFAULT_PREVIEW_PX = 640
LINK_SHARE = 0.2
"""Of the estimated uplink, that all watching together may take at most."""
CONGESTED_SHARE = 0.05
"""The same while the uplink is congested; there are no previews then."""
LONG_BACKLOG_MS = 40.0
CONGESTED_AFTER_MS = 500.0
"""A backlog that lasts for so long is more than one large payload."""
MAX_UNSENT_BYTES = 32_000
"""Of the socket; nothing is sent while more wait there."""
PROTOCOL_BYTES = 60
"""Of NATS around a message, the subject among them."""
_HELD_FRAMES = 100
"""Between two messages; to make a report of each takes some 50 µs of the frames' time."""
_FIRST_PREVIEW_BYTES = 15_000


@dataclass(frozen=True, slots=True)
class Lease:
    """What one watcher asked for; its end aside, two that ask for the same are one."""

    frames: bool
    answers: bool
    preview_fps: float
    preview_px: int
    bytes_per_s: int


class Watching:
    def __init__(self) -> None:
        self._leases: dict[Lease, int] = {}
        """When each ends, monotonic ns."""
        self._held: deque[Settled] = deque()
        self._left_out = 0
        self._allowance = 0.0
        """Bytes that may be sent now."""
        self._share_bytes_per_s = float(DEFAULT_BYTES_PER_S)
        self._looked_ns = 0
        self._clear_ns = 0
        """When the uplink was last seen without a long backlog."""
        self._congested = False
        self._clogged = False
        self._next_preview_ns = 0
        self._preview_bytes = _FIRST_PREVIEW_BYTES
        self._previewing = False

    # -- who watches ----------------------------------------------------------------------------------------------

    def grant(self, wanted: WatchRequest, now_ns: int) -> float:
        """Seconds that the lease lasts. Raises BadField if too many watch already."""
        self._end(now_ns)
        lease = Lease(
            wanted.frames,
            wanted.answers,
            wanted.preview_fps,
            wanted.preview_px or DEFAULT_PREVIEW_PX,
            wanted.max_bytes_per_s or DEFAULT_BYTES_PER_S,
        )
        if lease not in self._leases and len(self._leases) >= MAX_LEASES:
            raise BadField(f"{MAX_LEASES} different watches last already", field="watch")
        if not self._leases:
            self._begin(now_ns)
        self._leases[lease] = max(self._leases.get(lease, 0), now_ns + round(wanted.lease_s * 1e9))
        return wanted.lease_s

    @property
    def active(self) -> bool:
        """As of the last look or grant."""
        return bool(self._leases)

    @property
    def bytes_per_s(self) -> float:
        """What all watching together may take now."""
        asked = max((lease.bytes_per_s for lease in self._leases), default=0)
        return min(asked, self._share_bytes_per_s)

    def look(self, now_ns: int, *, bandwidth_bps: float, backlog_ms: float, unsent_bytes: int) -> None:
        """How the uplink fares. To be called some times a second; leases end here."""
        self._end(now_ns)
        if backlog_ms <= LONG_BACKLOG_MS:
            self._clear_ns = now_ns
        self._clogged = unsent_bytes > MAX_UNSENT_BYTES
        self._congested = self._clogged or now_ns - self._clear_ns >= CONGESTED_AFTER_MS * 1e6
        share = CONGESTED_SHARE if self._congested else LINK_SHARE
        self._share_bytes_per_s = share * bandwidth_bps / 8
        since_s = max(0, now_ns - self._looked_ns) / 1e9
        self._looked_ns = now_ns
        rate = self.bytes_per_s
        self._allowance = min(self._allowance + rate * since_s, rate)

    def _begin(self, now_ns: int) -> None:
        self._held.clear()
        self._left_out, self._allowance, self._looked_ns = 0, 0.0, now_ns
        self._clear_ns = max(self._clear_ns, now_ns)

    def _end(self, now_ns: int) -> None:
        for lease in [lease for lease, until_ns in self._leases.items() if until_ns <= now_ns]:
            del self._leases[lease]

    # -- frames ---------------------------------------------------------------------------------------------------

    def settled(self, entry: Settled) -> None:
        if not any(lease.frames for lease in self._leases):
            return
        if len(self._held) >= _HELD_FRAMES:
            self._held.popleft()
            self._left_out += 1
        self._held.append(entry)

    def take_frames(self) -> tuple[list[FrameReport], int]:
        """What may be sent now, oldest first, and how many frames this watch has left out so far."""
        if not self._held or self._clogged:
            return [], self._left_out
        answers = any(lease.answers for lease in self._leases)
        made: list[FrameReport] = []
        room = self._allowance - PROTOCOL_BYTES
        for entry in self._held:
            report = _report(entry, answers)
            size = report.ByteSize() + 4
            if size > room:
                self._left_out += 1
                continue
            room -= size
            made.append(report)
        self._held.clear()
        return made, self._left_out

    def spent(self, size_bytes: int) -> None:
        """A message of the watch was sent, its protocol not counted."""
        self._allowance -= size_bytes + PROTOCOL_BYTES

    # -- previews -------------------------------------------------------------------------------------------------

    def preview_px(self, now_ns: int) -> int | None:
        """The longest side of the picture that shall be made of the frame just settled; None: of this one, none.

        One at a time: the next may be asked for once `previewed` was called.
        """
        wanted = [lease for lease in self._leases if lease.preview_fps > 0]
        if not wanted or self._previewing or self._congested or now_ns < self._next_preview_ns:
            return None
        if self._preview_bytes > self._allowance:
            return None
        period_ns = round(1e9 / max(lease.preview_fps for lease in wanted))
        # On a grid, so that frames that come a little early or late do not lower the rate.
        self._next_preview_ns = max(self._next_preview_ns + period_ns, now_ns + period_ns // 2)
        self._previewing = True
        return max(lease.preview_px for lease in wanted)

    def previewed(self, size_bytes: int) -> bool:
        """The picture is made; 0: it could not be. False: it is not to be sent after all."""
        self._previewing = False
        if size_bytes:
            self._preview_bytes = size_bytes
        return bool(size_bytes) and not self._congested and size_bytes <= max(self._allowance, 0.0)


def _report(entry: Settled, answers: bool) -> FrameReport:
    try:
        return frame_report(entry.record, utility=entry.utility, answer=answers)
    except WireError:  # an answer that no message may hold, as of too many boxes; the rest can be told
        return frame_report(entry.record, utility=entry.utility)
