"""Owns writing a plan folder: everything goes to a folder beside the target and takes its name in one step."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
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

from splitmesh.errors import OutputError
from splitmesh.plan.bundle.old_read import Bundle, PlanFile, manifest_json, part_file, read_bundle
from splitmesh.plan.manifest import Manifest


class BundleDraft:
    """A plan folder in the making. Used as a context manager: what was not published is removed."""

    def __init__(self, out: Path) -> None:
        """Raises OutputError if no folder can be made beside `out`, or `out` holds something that is no plan."""
        self.out = out
        try:
            if out.exists() and not (out / "plan.json").exists() and (not out.is_dir() or any(out.iterdir())):
                raise OutputError(
                    f"{out} exists and is no plan folder",
                    path=str(out),
                    advice="name another folder, or empty this one",
                )
            out.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
            self.folder.chmod(0o755)
        except OSError as exc:
            raise OutputError(f"plan folder {out} can't be made: {exc.strerror or exc}", path=str(out)) from exc
        self._files: dict[str, str] = {}

    def __enter__(self) -> BundleDraft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, name: str, data: bytes) -> Path:
        """Write one file of the bundle. Raises OutputError."""
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as exc:
            raise OutputError(f"{path} can't be written: {exc.strerror or exc}", path=str(self.out)) from exc
        self._files[name] = hashlib.sha256(data).hexdigest()
        return path

    def add_model(self, data: bytes, manifest: Manifest, anchors: npt.NDArray[np.float32] | None) -> Path:
        """The whole model's bytes, its manifest and anchors. Returns the path of the model."""
        self.add("manifest.json", manifest_json(manifest))
        if anchors is not None:
            self.add("anchors.npy", anchors_bytes(anchors))
        return self.add("full.onnx", data)

    def add_cut(self, cut: str, head: ModelProto, tail: ModelProto) -> tuple[Path, Path]:
        """Paths of head and tail."""
        parts = [self.add(part_file(cut, name), _bytes(model)) for name, model in (("head", head), ("tail", tail))]
        return parts[0], parts[1]

    def drop_cut(self, cut: str) -> None:
        for part in ("head", "tail"):
            self._files.pop(part_file(cut, part), None)
        shutil.rmtree(self.folder / "cuts" / cut, ignore_errors=True)

    def publish(self, facts: Mapping[str, Any]) -> Bundle:
        """Write `plan.json` from `facts` (every field of PlanFile but `files`) and put the folder in place.

        A folder that was there is replaced. Raises OutputError, or pydantic's ValidationError for a wrong fact.
        """
        plan = PlanFile.model_validate({**facts, "files": dict(sorted(self._files.items()))})
        text = json.dumps(plan.model_dump(mode="json"), indent=1, allow_nan=False)
        old = self.folder.with_name(f"{self.folder.name}.old")
        try:
            (self.folder / "plan.json").write_text(text, encoding="utf-8")
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


def anchors_bytes(anchors: npt.NDArray[np.float32]) -> bytes:
    """The .npy form, the same bytes for the same anchors."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(anchors, np.float32), allow_pickle=False)
    return buffer.getvalue()


def _bytes(model: ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


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
