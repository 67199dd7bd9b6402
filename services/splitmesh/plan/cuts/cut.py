"""Owns the cut as a value: which tensors cross from edge to cloud, and how they travel. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

WIRE_DTYPES = ("float32", "float16", "float64", "uint8", "int8")
"""Element types in a graph that can cross: all of them travel as float32 and are cast back in the tail."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """One tensor that crosses a cut.

    In the graph it is called `name` and has `graph_shape` and `dtype`. On the wire, as the head's output and the
    tail's input, it is float32 of `shape` (1, …), two to four axes, and is called `wire`: the same as `name` unless a
    cast or a reshape stands between.
    """

    name: str
    graph_shape: tuple[int, ...]
    dtype: str
    shape: tuple[int, ...]
    wire: str

    @property
    def adapted(self) -> bool:
        """A cast or a reshape stands at the border."""
        return self.wire != self.name


@dataclass(frozen=True, slots=True)
class Cut:
    """A set of tensors that separates the model's input from all its outputs."""

    name: str
    """`n<node index>-<C>x<H>x<W>` of the largest tensor (`-<how many>t` if there are several) for a frontier of the
    file's node order, `m<nodes in the head>-…-<hash>` for a min-cut that is none. `[a-z0-9-]`, at most 48."""
    tensors: tuple[Crossing, ...]
    elements: int
    """Sum over all tensors."""
    node_index: int
    """A frontier's head ends with this node of the file's node list; else the last node of the head."""
    head_share: float = 0.0
    """Static estimate of the head's share of the model's work, [0, 1]."""
    input_ratio: float = 0.0
    """Elements over the elements of the model's input."""

    @property
    def is_frontier(self) -> bool:
        """Head and tail are a prefix and a suffix of the file's node list."""
        return self.name.startswith("n")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Wire name → wire shape: what a payload of this cut holds."""
        return {tensor.wire: tensor.shape for tensor in self.tensors}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A cut that was looked at and not kept. `stage`: "graph", "parity", "screen" or "pareto"."""

    name: str
    stage: str
    reason: str
