"""How a captured frame can end: the seven terms of the conservation law."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """`captured = local + split + frame + resumed + tracked + shed + expired`, once drained."""

    LOCAL = "local"
    """Whole model on the edge."""
    SPLIT = "split"
    """Head on the edge, tail on a worker."""
    FRAME = "frame"
    """Whole model on a worker."""
    RESUMED = "resumed"
    """Head on the edge, then the edge ran the tail itself because no usable reply had come."""
    TRACKED = "tracked"
    """Carried over from an earlier answer."""
    SHED = "shed"
    """Dropped before a decision: the ring was full, or the edge was draining."""
    EXPIRED = "expired"
    """Decided, but no answer of any kind could be given."""

    @property
    def inferred(self) -> bool:
        """True if a model saw this frame."""
        return self in _INFERRED

    @property
    def answered(self) -> bool:
        """True if the frame has an answer of any kind."""
        return self not in (Outcome.SHED, Outcome.EXPIRED)


_INFERRED = frozenset({Outcome.LOCAL, Outcome.SPLIT, Outcome.FRAME, Outcome.RESUMED})
