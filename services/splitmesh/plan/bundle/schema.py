"""Owns the values that a plan folder holds. Two kinds of file, on purpose apart:

`PlanFile` is what follows from model, manifest and footage alone: the same inputs give the same bytes. `ProfileFile`
is what one class of device measured; a plan has one per class. Operating points are made of both when a plan is read.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

FORMAT = 2
REVISION = 5
"""Grows when cutting or calibration changes what it gives for the same model and frames."""

CutName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DeviceClass = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TensorEntry(Strict):
    """One tensor of a cut; see `plan.cuts.cut.Crossing`."""

    name: str
    """In the graph."""
    wire: str
    """On the wire: output of the head, input of the tail."""
    shape: tuple[int, ...]
    """On the wire: (1, …) float32."""
    dtype: str
    """In the graph."""


class CutEntry(Strict):
    """One kept cut."""

    name: CutName
    tensors: tuple[TensorEntry, ...]
    elements: int
    node_index: int
    head_share: Share
    """Static estimate; the measured one is in a profile."""
    parity_max_rel: float
    """Largest relative difference of tail∘head from the whole model on the parity frames."""
    deterministic: bool
    """Two runs of head and tail on the same frame gave the same bits."""
    batchable: bool
    """Head and tail take any batch size: batches of 1, 2 and 4 gave what single frames give."""

    table_id: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of `parts/<cut>.table`; see `codec.compact.table`. "": the plan has none for this cut."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Wire name → wire shape: what a payload of this cut holds."""
        return {tensor.wire: tensor.shape for tensor in self.tensors}


class RejectedCut(Strict):
    """A cut that was looked at and not kept."""

    name: str
    stage: Literal["graph", "parity", "screen", "pareto"]
    reason: str


class FidelityBin(Strict):
    """Fidelity over the evaluation frames of one kind of content."""

    objects: Literal["0", "1-3", "4+", "any"]
    """Objects in the reference answer; "any" for models that do not count objects."""
    motion: Literal["still", "moving", "any"]
    frames: int
    fidelity: Share


class RateRow(Strict):
    """What one way to treat a frame sends and keeps, over the evaluation frames. No times: those are in profiles.

    cut "": the picture, or (with codec "" too) a whole model on the edge other than the model itself (`variant`).
    """

    cut: str
    codec: str
    level: int
    variant: Literal["", "int8", "small"] = ""
    """Which files run on the edge: "" the model's own, "int8" quantised ones, "small" the smaller model."""
    bytes_mean: float
    bytes_p95: float
    key_bytes: float = 0.0
    """Of a stateful codec: mean size of what follows nothing, which is not in `bytes_mean`; 0 for the others."""
    fidelity: Share
    """Expected agreement with the whole fp32 model; see `plan.calibrate.fidelity_estimate`."""
    agreement: Share
    """Plain mean over the evaluation frames."""
    metrics: dict[str, float]
    """By kind of model: map50, f1 · top1, top5, kl · miou · cosine, equal; see `plan.answers.metrics`."""
    bins: tuple[FidelityBin, ...]

    @property
    def point(self) -> str:
        """Name of the operating point: "split/<cut>/<codec>-<level>", "frame/…", "local/<variant>"; a quantised head
        adds "+int8" to the cut."""
        if not self.codec:
            return f"local/{self.variant}"
        place = f"split/{self.cut}" if self.cut else "frame"
        return f"{place}{'+' + self.variant if self.variant else ''}/{self.codec}-{self.level}"


class PointName(NamedTuple):
    """What the name of a remote operating point says."""

    place: str
    """"split" or "frame"."""
    cut: str
    variant: str
    codec: str
    level: int


_POINT = re.compile(r"(?:(split)/([a-z0-9-]+)(?:\+([a-z0-9]+))?|(frame))/([a-z0-9]+)-([0-9]{1,3})")


def parse_point(name: str) -> PointName | None:
    """The opposite of `RateRow.point`, for points that send something; None for all other names."""
    found = _POINT.fullmatch(name)
    if found is None:
        return None
    split, cut, variant, frame, codec, level = found.groups()
    return PointName(split or frame, cut or "", variant or "", codec, int(level))


class Strip(Strict):
    """The graph as a row of nodes, in order, constants left out."""

    ops: tuple[str, ...]
    elements: tuple[int, ...]
    """Elements that are live after each node; 0 where a shape is not known."""
    shares: tuple[float, ...]
    """Static share of the model's work up to and with each node, [0, 1]."""
    index: tuple[int, ...]
    """Position of each node in the file's node list: what cut names count."""


class PlanKey(Strict):
    """What a plan was built from. A plan is used again only if all of it still holds."""

    format: Literal[2] = 2
    revision: int = REVISION
    model_sha256: Sha256
    """Of the user's model, external data included; see `plan.graph.load.model_sha256`."""
    manifest_sha256: Sha256
    anchors_sha256: str = ""
    codecs: dict[str, tuple[int, ...]]
    """Codec → levels that calibration knew."""
    footage_sha256: str = ""
    """Of all pictures that calibration saw; "" for a plan without."""
    options: str = ""
    """What else was asked for and changes the result, e.g. "int8", "small=<sha256>"."""

    def parts_match(self, other: PlanKey) -> bool:
        """Same model, read the same way: heads and tails are interchangeable, whatever frames calibrated them."""

        def facts(key: PlanKey) -> tuple[object, ...]:
            return (key.revision, key.model_sha256, key.manifest_sha256, key.anchors_sha256)

        return facts(self) == facts(other)


class FrameCounts(Strict):
    """How many real frames each step used; fit and evaluate share none."""

    parity: int = 0
    fit: int = 0
    evaluate: int = 0


class PlanFile(Strict):
    """The deterministic part of a plan: `plan.pb`, mirrored in `plan.json`."""

    key: PlanKey
    tools: dict[str, str]
    """Versions: splitmesh, onnx, onnxruntime, numpy."""
    notes: tuple[str, ...] = ()
    """What was guessed or decided for the user, in plain sentences."""
    calibrated: bool
    """False: cuts and their parts only, built without frames (all that a worker needs)."""
    frames: FrameCounts = FrameCounts()
    nodes: int
    """Nodes of the model as it was given."""
    frontiers: int
    """Frontiers that were looked at."""
    batchable: bool
    """The whole model takes any batch size."""
    deterministic: bool
    """Two runs of the whole model on the same frame gave the same bits."""
    cuts: tuple[CutEntry, ...]
    rejected: tuple[RejectedCut, ...]
    rows: tuple[RateRow, ...]
    """Every row that was measured, dominated ones too."""
    track_kappa: float
    track_samples: int
    strip: Strip
    files: dict[str, Sha256]
    """Every other file of the folder but profiles, plan.json and plan.html."""


class PartTiming(Strict):
    """Wall-clock milliseconds of one part, and millijoules where a sensor could be read."""

    p50_ms: float
    p95_ms: float
    runs: int
    energy_mj: float | None = None


class ProfileFile(Strict):
    """What one class of device measured: `profiles/<device class>.json`."""

    plan_sha256: Sha256
    """Of `plan.pb`."""
    device_class: DeviceClass
    device: str
    """As `inference.providers.describe_device` says."""
    provider: str
    threads: Annotated[int, Field(ge=1)]
    tools: dict[str, str]
    edge_slowdown: Annotated[float, Field(ge=1)] = 1.0
    """The edge is taken to be so many times slower than the device that measured."""
    times: dict[str, PartTiming]
    """"full", "full int8", "full small", "head <cut>", "head <cut> int8", "tail <cut>", "tail <cut> b<n>" (a batch of
    n), "encode <point>", "decode <point>". As measured: the slowdown is not in them."""
