"""Owns the plan folder as a value, and the refusal of one that is not whole or was tampered with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.table import CompactTable
from splitmesh.errors import CodecError, ModelError
from splitmesh.plan.answers.postprocess import PostprocessFn, build_postprocess
from splitmesh.plan.answers.relabel import relabelled
from splitmesh.plan.bundle import format as folder_format
from splitmesh.plan.bundle.points import operating_point, operating_points
from splitmesh.plan.bundle.schema import CutEntry, PlanFile, ProfileFile
from splitmesh.plan.manifest import Manifest, parse_manifest
from splitmesh.policy.point import OperatingPoint


@dataclass(frozen=True)
class Bundle:
    """A plan folder that was checked: every file is what `plan.pb` says."""

    folder: Path
    manifest: Manifest
    plan: PlanFile
    plan_sha256: str
    """Of `plan.pb`; profiles name it."""
    profiles: Mapping[str, ProfileFile] = field(default_factory=dict)
    """By device class."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """File name of each profile that can't be used, and why, with what to do."""
    profile: ProfileFile | None = None
    """The selected one: its times are in `points`."""

    @property
    def sha256(self) -> str:
        """sha256 (hex) of the user's model: both ends of the mesh must hold the same."""
        return self.plan.key.model_sha256

    @property
    def cuts(self) -> tuple[CutEntry, ...]:
        return self.plan.cuts

    @cached_property
    def points(self) -> tuple[OperatingPoint, ...]:
        """Operating points, sorted by name; () without a profile, and for a plan of parts only."""
        if self.profile is None or not self.plan.calibrated:
            return ()
        return operating_points(self.plan, self.profile)

    def points_with(self, name: str) -> tuple[OperatingPoint, ...]:
        """`points`, and the one called `name` if there is such a one that is not offered."""
        if not self.points or self.profile is None or name in {point.name for point in self.points}:
            return self.points
        further = operating_point(self.plan, self.profile, name)
        return self.points if further is None else (*self.points, further)

    def points_like(self, beginning: str) -> tuple[OperatingPoint, ...]:
        """Operating points as if there were no remote ones but those whose names begin so: more levels of these."""
        if not self.points or self.profile is None:
            return self.points
        return operating_points(self.plan, self.profile, beginning=beginning)

    @property
    def track_kappa(self) -> float:
        """κ of A_track = exp(−κ · (motion + floor) · age_s); see `plan.calibrate.fit_track_kappa`."""
        return self.plan.track_kappa

    @property
    def device(self) -> str:
        """The device of the selected profile; "" without one."""
        return self.profile.device if self.profile else ""

    @property
    def threads(self) -> int:
        """Runtime threads of the selected profile; 1 without one."""
        return self.profile.threads if self.profile else 1

    def select(
        self, *, device: str | None = None, threads: int | None = None, device_class: str | None = None
    ) -> Bundle:
        """The same with the profile that fits all that is asked for, or with none if no profile does.

        device: as `inference.providers.describe_device` says. Of several, the one that stretches times the least,
        then the first by device class.
        """
        for profile in sorted(self.profiles.values(), key=lambda p: (p.edge_slowdown, p.device_class)):
            if (
                device in (None, profile.device)
                and threads in (None, profile.threads)
                and device_class in (None, profile.device_class)
            ):
                return replace(self, profile=profile)
        return replace(self, profile=None)

    def with_profile(self, profile: ProfileFile) -> Bundle:
        """The same with `profile`, which must be of this plan, selected."""
        return replace(self, profiles={**self.profiles, profile.device_class: profile}, profile=profile)

    @property
    def full_path(self) -> Path:
        return self.folder / folder_format.FULL

    def cut(self, name: str) -> CutEntry:
        """Raises ModelError naming the cuts that there are."""
        for entry in self.cuts:
            if entry.name == name:
                return entry
        known = ", ".join(c.name for c in self.cuts) or "none"
        raise ModelError(f"plan {self.folder} has no cut {name!r}, only {known}")

    def head_path(self, cut: str, variant: str = "") -> Path:
        """Raises ModelError for a cut or a variant that is not there."""
        return self._listed(folder_format.part_file(self.cut(cut).name, "head", variant))

    def tail_path(self, cut: str) -> Path:
        return self._listed(folder_format.part_file(self.cut(cut).name, "tail"))

    def table(self, cut: str) -> CompactTable | None:
        """The calibration table of a cut, read once; None if the plan has none for it.

        Raises ModelError for a cut that is not there, and for a table that is damaged or of another cut.
        """
        entry = self.cut(cut)
        if entry.table_id and cut not in self._tables:
            self._tables[cut] = self._read_table(entry)
        return self._tables.get(cut)

    def _read_table(self, entry: CutEntry) -> CompactTable:
        path = self._listed(folder_format.table_file(entry.name))
        try:
            table = CompactTable.from_bytes(folder_format.read_limited(path))
        except CodecError as exc:
            raise ModelError(f"{path} is damaged: {exc.message}", advice=folder_format.REBUILD) from exc
        if table.id != entry.table_id or {t.name: t.shape for t in table.tensors} != entry.shapes:
            raise ModelError(f"{path} is not the table of cut {entry.name}", advice=folder_format.REBUILD)
        return table

    @cached_property
    def _tables(self) -> dict[str, CompactTable]:
        return {}

    def local_path(self, variant: str) -> Path:
        """The whole model in one of its forms: "", "int8", "small". Raises ModelError if it is not there."""
        return self._listed(folder_format.local_file(variant))

    def _listed(self, name: str) -> Path:
        if name not in self.plan.files:
            raise ModelError(f"plan {self.folder} has no {name}", advice=folder_format.REBUILD)
        return self.folder / name

    def anchors(self) -> npt.NDArray[np.float32] | None:
        """(A, 4) y_min x_min y_max x_max, or None for a model without."""
        return self._anchors(folder_format.ANCHORS)

    def _anchors(self, name: str) -> npt.NDArray[np.float32] | None:
        if name not in self.plan.files:
            return None
        return folder_format.read_anchors((self.folder / name).read_bytes())

    def postprocess(self, variant: str = "") -> PostprocessFn:
        """Outputs of the model, or of what stands in for it here → Answer in [0, 1] of the model's input picture.

        The smaller model's answers come in the classes of the model. Raises ModelError if it is not there.
        """
        if variant != "small":
            return build_postprocess(self.manifest, self.anchors())
        path = self._listed(folder_format.SMALL_MANIFEST)
        small = parse_manifest(folder_format.json_object(path), where=str(path))
        read = build_postprocess(small, self._anchors(folder_format.SMALL_ANCHORS))
        return relabelled(read, small.labels, self.manifest.labels)


def is_plan(folder: Path) -> bool:
    """True for a folder that is, or was, a plan of any format."""
    return any((folder / name).is_file() for name in (folder_format.PLAN, folder_format.MIRROR))


def read_bundle(folder: str | Path, *, verify: bool = True) -> Bundle:
    """Open a plan folder, no profile selected. `verify=False` skips the sha256 of the files.

    Raises ModelError that names the file and what to do when something is missing, altered, or of a format or
    revision that this version does not know. A damaged profile is only left out, and named in `refused`.
    """
    root = Path(folder)
    if not (root / folder_format.PLAN).exists():
        _no_plan(root)
    data = folder_format.read_limited(root / folder_format.PLAN)
    plan = folder_format.parse_plan(data, where=str(root / folder_format.PLAN))
    mirror = root / folder_format.MIRROR
    if folder_format.parse_plan_json(folder_format.read_limited(mirror), where=str(mirror)) != plan:
        raise ModelError(f"{mirror} does not say what {folder_format.PLAN} says", advice=folder_format.REBUILD)
    folder_format.check_files(plan, where=str(root / folder_format.PLAN))
    for name, wanted in plan.files.items():
        if not (root / name).is_file():
            raise ModelError(f"{root / name} is missing", advice=folder_format.REBUILD)
        if verify and folder_format.file_sha256(root / name) != wanted:
            raise ModelError(
                f"{root / name} is not the file that {folder_format.PLAN} describes", advice=folder_format.REBUILD
            )
    for path in sorted((root / folder_format.PARTS).iterdir()):
        if f"{folder_format.PARTS}/{path.name}" not in plan.files:  # the runtime takes optimised models by their name
            raise ModelError(f"{path} does not belong to the plan", advice=f"delete it, or {folder_format.REBUILD}")
    manifest_path = root / folder_format.MANIFEST
    manifest = parse_manifest(folder_format.json_object(manifest_path), where=str(manifest_path))
    sha256 = hashlib.sha256(data).hexdigest()
    profiles, refused = _read_profiles(root, sha256)
    return Bundle(root, manifest, plan, sha256, profiles, refused)


def _no_plan(root: Path) -> None:
    mirror = root / folder_format.MIRROR
    if mirror.is_file():  # the first format had no plan.pb
        folder_format.parse_plan_json(folder_format.read_limited(mirror), where=str(mirror))
        raise ModelError(f"{root / folder_format.PLAN} is missing", advice=folder_format.REBUILD)
    raise ModelError(f"{root} is no plan: {folder_format.PLAN} is missing", advice=folder_format.REBUILD)


def _read_profiles(root: Path, plan_sha256: str) -> tuple[dict[str, ProfileFile], dict[str, str]]:
    profiles: dict[str, ProfileFile] = {}
    refused: dict[str, str] = {}
    for path in sorted((root / folder_format.PROFILES).glob("*.json")):
        try:
            profile = folder_format.parse_profile(
                folder_format.read_limited(path), plan_sha256=plan_sha256, where=path
            )
        except ModelError as exc:
            refused[path.name] = str(exc)
        else:
            profiles[profile.device_class] = profile
    return profiles, refused
