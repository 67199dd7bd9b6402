"""Owns writing a plan folder: everything goes to a folder beside the target and takes its name in one step."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from splitmesh.codec.compact.table import CompactTable
from splitmesh.errors import ModelError, OutputError
from splitmesh.plan.bundle import format as folder_format
from splitmesh.plan.bundle.format import PARTS, PROFILES, part_file, table_file
from splitmesh.plan.bundle.read import Bundle, is_plan, read_bundle
from splitmesh.plan.bundle.schema import PlanFile, ProfileFile
from splitmesh.plan.bundle.weights import WeightStore
from splitmesh.plan.manifest import Manifest


class BundleDraft:
    """A plan folder in the making. Used as a context manager: what was not published is removed.

    All models share one weight store. What is added in the same order gives the same bytes.
    """

    def __init__(self, out: Path) -> None:
        """Raises OutputError if no folder can be made beside `out`, or `out` holds something that is no plan."""
        self.out = out
        try:
            if out.exists() and not is_plan(out) and (not out.is_dir() or any(out.iterdir())):
                raise OutputError(
                    f"{out} exists and is no plan folder",
                    path=str(out),
                    advice="name another folder, or empty this one",
                )
            out.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            self.folder.chmod(0o755)
            (self.folder / PARTS).mkdir()
        except OSError as exc:
            raise OutputError(f"plan folder {out} can't be made: {exc.strerror or exc}", path=str(out)) from exc
        self._files: dict[str, str] = {}
        self._weights = WeightStore(self.folder / folder_format.WEIGHTS)

    def __enter__(self) -> BundleDraft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._weights.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, name: str, data: bytes) -> Path:
        """Write one file of the bundle. Raises OutputError."""
        path = self.folder / name
        try:
            path.write_bytes(data)
        except OSError as exc:
            raise OutputError(f"{path} can't be written: {exc.strerror or exc}", path=str(self.out)) from exc
        self._files[name] = hashlib.sha256(data).hexdigest()
        return path

    def add_manifest(self, manifest: Manifest, anchors: npt.NDArray[np.float32] | None) -> None:
        self.add(folder_format.MANIFEST, folder_format.manifest_json(manifest))
        if anchors is not None:
            self.add(folder_format.ANCHORS, folder_format.anchors_bytes(anchors))

    def add_full(self, model: ModelProto) -> Path:
        """The whole model. `model` itself becomes a skeleton: its large weights are in the store from here on.

        Parts that are split from the skeleton refer to the same weights, and hold almost nothing themselves.
        """
        return self._add_model(folder_format.FULL, model)

    def add_cut(self, name: str, head: ModelProto, tail: ModelProto) -> tuple[Path, Path]:
        """Paths of head and tail."""
        return self._add_model(part_file(name, "head"), head), self._add_model(part_file(name, "tail"), tail)

    def drop_cut(self, name: str) -> None:
        """Remove every part of the cut; weights that only it used stay in the store."""
        for path in (self.folder / PARTS).glob(f"{name}.*"):
            self._files.pop(f"{PARTS}/{path.name}", None)
            path.unlink()

    def add_variant(self, file_name: str, model: ModelProto) -> Path:
        """Another model into `parts/`, e.g. "full.int8.onnx", "<cut>.head.int8.onnx", "small.onnx"."""
        return self._add_model(f"{PARTS}/{file_name}", model)

    def add_table(self, cut: str, table: CompactTable) -> None:
        """The calibration table of a cut."""
        self.add(table_file(cut), table.to_bytes())

    def drop_variant(self, file_name: str) -> None:
        """Undo `add_variant`."""
        if self._files.pop(f"{PARTS}/{file_name}", None) is not None:
            (self.folder / PARTS / file_name).unlink()

    def _add_model(self, name: str, model: ModelProto) -> Path:
        return self.add(name, bytes(self._weights.externalise(model).SerializeToString(deterministic=True)))

    def publish(self, facts: Mapping[str, Any]) -> Bundle:
        """Write `plan.pb` and its mirror from `facts` (every field of PlanFile but `files`), put the folder in place.

        A folder that was there is replaced; its profiles are kept if the plan is the same to the byte. Raises
        OutputError, ModelError for files that do not fit the facts, pydantic's ValidationError for a wrong fact.
        """
        self._weights.close()
        files = dict(self._files)
        if self._weights.size_bytes:
            files[folder_format.WEIGHTS] = folder_format.file_sha256(self._weights.path)
        plan = PlanFile.model_validate({**facts, "files": dict(sorted(files.items()))})
        folder_format.check_files(plan, where=folder_format.PLAN)
        data = folder_format.plan_bytes(plan)
        old = self.folder.with_name(f"{self.folder.name}.old")
        try:
            if not self._weights.size_bytes:
                self._weights.path.unlink()
            (self.folder / folder_format.PLAN).write_bytes(data)
            (self.folder / folder_format.MIRROR).write_bytes(folder_format.plan_json(plan))
            if self._same_plan(data) and (self.out / PROFILES).is_dir():
                shutil.copytree(self.out / PROFILES, self.folder / PROFILES)
            if self.out.exists():
                self.out.replace(old)
            self.folder.replace(self.out)
        except OSError as exc:
            raise OutputError(
                f"plan {self.out} can't be put in place: {exc.strerror or exc}", path=str(self.out)
            ) from exc
        finally:
            if old.exists() and not self.out.exists():
                old.replace(self.out)
            shutil.rmtree(old, ignore_errors=True)
        return read_bundle(self.out, verify=False)

    def _same_plan(self, data: bytes) -> bool:
        path = self.out / folder_format.PLAN
        return path.is_file() and path.read_bytes() == data


def add_profile(folder: Path, profile: ProfileFile) -> Path:
    """Put `profile` into a plan folder, in place of an older one of its device class; other classes are untouched.

    Two processes may do this at the same time. Raises ModelError for a profile of another plan, OutputError.
    """
    path = folder / PROFILES / f"{profile.device_class}.json"
    plan = folder / folder_format.PLAN
    if folder_format.file_sha256(plan) != profile.plan_sha256:
        raise ModelError(
            f"the profile of {profile.device_class} is not of plan {folder}", advice="measure it with this plan"
        )
    write_atomically(path, folder_format.profile_bytes(profile))
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """`path` holds either what it held or all of `data`. Raises OutputError."""
    beside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        beside = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        beside.chmod(0o644)
        beside.replace(path)
    except OSError as exc:
        if beside is not None:
            beside.unlink(missing_ok=True)
        raise OutputError(f"{path} can't be written: {exc.strerror or exc}", path=str(path)) from exc


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """One builder per folder and machine at a time; the lock file lies beside it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = (out.parent / f".{out.name}.lock").open("w")
    except OSError as exc:
        raise OutputError(f"plan folder {out} can't be made: {exc.strerror or exc}", path=str(out)) from exc
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in out.parent.iterdir():
            if path.name.startswith(f".{out.name}.") and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)  # left by a builder that was killed
        yield
