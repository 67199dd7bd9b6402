"""Owns the plan folder: what it holds, and the refusal of one that is not whole or was tampered with.

`plan.json` (what was measured, sha256 of every other file), `manifest.json`, `full.onnx`, `anchors.npy` if the
post-processing needs anchors, `cuts/<name>/{head,tail}.onnx`. All names are relative: the folder may be moved.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from splitmesh.errors import ModelError
from splitmesh.plan.answers.postprocess import PostprocessFn, build_postprocess
from splitmesh.plan.manifest import Manifest, parse_manifest
from splitmesh.policy.point import OperatingPoint

FORMAT = 1
REVISION = 3
"""Grows when cutting or calibration changes what it gives for the same model and frames."""
_REBUILD = "delete the folder and let splitmesh build it again"
_MAX_JSON_BYTES = 8_000_000

CutName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CutEntry(_Strict):
    """One kept cut."""

    name: CutName
    tensors: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """(1, C, H, W) float32, one per tensor."""
    elements: int
    node_index: int
    head_share: float
    """Static estimate of the head's share of the work; the measured one is in the profile."""
    parity_error: float
    """Largest relative difference of tail∘head from the whole model on real frames."""


class DroppedCut(_Strict):
    """A cut that was tried and refused."""

    name: CutName
    reason: str


class Profile(_Strict):
    """Wall-clock milliseconds of one part: "full", "head <cut>", "tail <cut>", "encode <point>", "decode <point>"."""

    p50_ms: float
    p95_ms: float
    runs: int


class PlanKey(_Strict):
    """What a plan was built from. A plan is used again only if all of it still holds."""

    format: Literal[1] = 1
    revision: int = REVISION
    model_sha256: Sha256
    manifest_sha256: Sha256
    anchors_sha256: str = ""
    codecs: dict[str, tuple[int, ...]]
    """Codec → levels that calibration knew."""
    device: str
    threads: Annotated[int, Field(ge=1)]

    def parts_match(self, other: PlanKey) -> bool:
        """Same model, read the same way: heads and tails are interchangeable, whatever device measured them."""

        def facts(key: PlanKey) -> tuple[object, ...]:
            return (key.revision, key.model_sha256, key.manifest_sha256, key.anchors_sha256)

        return facts(self) == facts(other)


class PlanFile(_Strict):
    """`plan.json`."""

    key: PlanKey
    calibrated: bool
    """False: cuts and their parts only, built without frames (all that a worker needs)."""
    provider: str
    frames: int
    """Calibration frames that the points' means are over."""
    cuts: tuple[CutEntry, ...]
    dropped: tuple[DroppedCut, ...]
    points: tuple[OperatingPoint, ...]
    track_kappa: float
    track_samples: int
    profile: dict[str, Profile]
    calibration: tuple[dict[str, Any], ...]
    """Every row that was measured, dominated ones too."""
    files: dict[str, Sha256]


@dataclass(frozen=True)
class Bundle:
    """A plan folder that was checked: every file is what `plan.json` says."""

    folder: Path
    manifest: Manifest
    plan: PlanFile

    @property
    def sha256(self) -> str:
        """sha256 (hex) of the full fp32 model file: both ends of the mesh must hold the same."""
        return self.plan.key.model_sha256

    @property
    def cuts(self) -> tuple[CutEntry, ...]:
        return self.plan.cuts

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """Calibrated operating points, sorted by name; empty for a bundle of parts only."""
        return self.plan.points

    @property
    def track_kappa(self) -> float:
        """κ of A_track = exp(−κ · (motion + floor) · age_s); see `plan.calibrate.fit_track_kappa`."""
        return self.plan.track_kappa

    @property
    def device(self) -> str:
        return self.plan.key.device

    @property
    def threads(self) -> int:
        return self.plan.key.threads

    @property
    def full_path(self) -> Path:
        return self.folder / "full.onnx"

    def cut(self, name: str) -> CutEntry:
        """Raises ModelError naming the cuts that there are."""
        for entry in self.cuts:
            if entry.name == name:
                return entry
        known = ", ".join(c.name for c in self.cuts) or "none"
        raise ModelError(f"plan {self.folder} has no cut {name!r}, only {known}")

    def head_path(self, cut: str) -> Path:
        return self.folder / part_file(self.cut(cut).name, "head")

    def tail_path(self, cut: str) -> Path:
        return self.folder / part_file(self.cut(cut).name, "tail")

    def anchors(self) -> npt.NDArray[np.float32] | None:
        """(A, 4) y_min x_min y_max x_max, or None for a model without."""
        return read_anchors((self.folder / "anchors.npy").read_bytes()) if "anchors.npy" in self.plan.files else None

    def postprocess(self) -> PostprocessFn:
        """Model outputs → Answer in [0, 1] of the model's input picture."""
        return build_postprocess(self.manifest, self.anchors())


def part_file(cut: str, part: str) -> str:
    """Name of a part within the folder."""
    return f"cuts/{cut}/{part}.onnx"


def read_anchors(data: bytes) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float32)
    return array


def manifest_json(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest; their sha256 is part of the plan's key."""
    return json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=1).encode()


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file. Raises ModelError naming it if it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise ModelError(
            f"{path} can't be read: {exc.strerror or exc}", advice="check the path and its rights"
        ) from exc


def read_bundle(folder: str | Path, *, verify: bool = True) -> Bundle:
    """Open a plan folder. `verify=False` skips the sha256 of the files.

    Raises ModelError that names the file and what to do when something is missing, altered or of another format.
    """
    root = Path(folder)
    plan = _read_plan(root / "plan.json")
    expected = {
        "manifest.json",
        "full.onnx",
        *(part_file(c.name, part) for c in plan.cuts for part in ("head", "tail")),
    }
    if expected != plan.files.keys() - {"anchors.npy"}:
        odd = ", ".join(sorted(expected ^ (plan.files.keys() - {"anchors.npy"})))
        raise ModelError(f"{root / 'plan.json'} lists other files than its cuts need: {odd}", advice=_REBUILD)
    for name, wanted in plan.files.items():
        if not (root / name).is_file():
            raise ModelError(f"{root / name} is missing", advice=_REBUILD)
        if verify and file_sha256(root / name) != wanted:
            raise ModelError(f"{root / name} is not the file that plan.json describes", advice=_REBUILD)
    if plan.files["full.onnx"] != plan.key.model_sha256:
        raise ModelError(f"{root / 'plan.json'} names two different models", advice=_REBUILD)
    return Bundle(root, _read_manifest(root / "manifest.json"), plan)


def _read_plan(path: Path) -> PlanFile:
    data = _read_json(path)
    key = data.get("key")
    found = key.get("format") if isinstance(key, dict) else None
    if found != FORMAT:
        raise ModelError(f"{path} has plan format {found}, this version reads {FORMAT}", advice=_REBUILD)
    try:
        return PlanFile.model_validate(data)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: {where}: {first['msg']}", advice=_REBUILD) from exc


def _read_manifest(path: Path) -> Manifest:
    return parse_manifest(_read_json(path), where=str(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ModelError(f"{path} is larger than any plan", advice=_REBUILD)
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ModelError(f"{path} does not exist", advice="build the plan with `splitmesh plan`") from exc
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path} can't be read: {exc}", advice=_REBUILD) from exc
    if not isinstance(data, dict):
        raise ModelError(f"{path} does not hold an object", advice=_REBUILD)
    return data


def summarize(bundle: Bundle) -> list[dict[str, Any]]:
    """One row per operating point, for a table: name, place, cut, kB, fidelity and the milliseconds of each step."""
    return [
        {
            "point": p.name,
            "place": p.place.value,
            "cut": p.cut,
            "payload_kb": round(p.payload_bytes / 1000, 2),
            "fidelity": round(p.fidelity, 3),
            "edge_ms": round(p.edge_ms, 2),
            "encode_ms": round(p.encode_ms, 2),
            "decode_ms": round(p.decode_ms, 2),
            "cloud_ms": round(p.cloud_ms, 2),
            "resume_ms": round(p.resume_ms, 2),
        }
        for p in bundle.points
    ]
