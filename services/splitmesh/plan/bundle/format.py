"""Owns the bytes of a plan folder's own files: names, plan.pb with its mirror plan.json, profiles, manifest, anchors.

Refuses what this version does not know rather than reading half of it.

    NAME.plan/plan.pb                     root: the deterministic part, sha256 of every file below
              plan.json                   the same, to be read by people and scripts
              manifest.json  anchors.npy  how the model is fed and read; anchors only where boxes need them
              parts/full.onnx  parts/<cut>.{head,tail}.onnx  parts/weights.bin
              parts/full.int8.onnx  parts/<cut>.head.int8.onnx  parts/small.onnx    variants, where there are any
              parts/<cut>.table                   calibration of a cut's codecs, where frames were there to fit it
              small.json  small.npy               manifest and anchors of the smaller model
              profiles/<device class>.json                   times; no part of what plan.pb vouches for
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError
from pydantic import ValidationError

from splitmesh.errors import ModelError
from splitmesh.plan.bundle.schema import FORMAT, REVISION, PlanFile, ProfileFile
from splitmesh.plan.bundle.weights import WEIGHTS_FILE
from splitmesh.plan.manifest import Manifest
from splitmesh.v1 import plan_pb2

PLAN = "plan.pb"
MIRROR = "plan.json"
MANIFEST = "manifest.json"
ANCHORS = "anchors.npy"
SMALL_MANIFEST = "small.json"
SMALL_ANCHORS = "small.npy"
PARTS = "parts"
PROFILES = "profiles"
WEIGHTS = f"{PARTS}/{WEIGHTS_FILE}"
FULL = f"{PARTS}/full.onnx"
REBUILD = "make the plan again with `splitmesh plan`"
_PROFILE_AGAIN = "delete the file and run `splitmesh plan profile`"
_MAX_BYTES = 32_000_000
_FILE_NAME = re.compile(rf"(?:{PARTS}/)?[A-Za-z0-9][A-Za-z0-9._-]*")


def part_file(cut: str, part: str, variant: str = "") -> str:
    """Name of a cut's "head" or "tail" within the folder."""
    return f"{PARTS}/{cut}.{part}{'.' + variant if variant else ''}.onnx"


def local_file(variant: str) -> str:
    """Name of a whole model for the edge: the model itself (""), its "int8" form, or the "small" one."""
    return {"": FULL, "small": f"{PARTS}/small.onnx"}.get(variant, f"{PARTS}/full.{variant}.onnx")


def plan_bytes(plan: PlanFile) -> bytes:
    """`plan.pb`: equal plans give equal bytes."""
    data = plan.model_dump(mode="json")
    data["key"]["codecs"] = {name: {"levels": levels} for name, levels in data["key"]["codecs"].items()}
    message = ParseDict(data, plan_pb2.PlanFile())
    return bytes(message.SerializeToString(deterministic=True))


def parse_plan(data: bytes, *, where: str) -> PlanFile:
    """The opposite of `plan_bytes`. Raises ModelError naming `where` for anything else."""
    message = plan_pb2.PlanFile()
    try:
        message.ParseFromString(data)
    except DecodeError as exc:
        raise ModelError(f"{where} is damaged: {exc}", advice=REBUILD) from exc
    check_version(message.key.format, message.key.revision, where=where)
    known = plan_pb2.PlanFile()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        raise ModelError(
            f"{where} holds fields that this version of splitmesh does not know",
            advice="update splitmesh, or " + REBUILD,
        )
    fields = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    fields["key"]["codecs"] = {name: entry["levels"] for name, entry in fields["key"]["codecs"].items()}
    return _valid_plan(fields, where=where)


def plan_json(plan: PlanFile) -> bytes:
    """`plan.json`: equal plans give equal bytes, in whatever order their maps were read."""
    return json.dumps(plan.model_dump(mode="json"), indent=1, allow_nan=False, sort_keys=True).encode()


def parse_plan_json(data: bytes, *, where: str) -> PlanFile:
    """The opposite of `plan_json`. Raises ModelError naming `where` for anything else."""
    fields = _json_object(data, where=where, advice=REBUILD)
    key = fields.get("key")
    if isinstance(key, dict):
        check_version(key.get("format"), key.get("revision"), where=where)
    return _valid_plan(fields, where=where)


def check_version(found: object, revision: object, *, where: str) -> None:
    """Raises ModelError, saying what to do, unless this version reads `found` and cuts as `revision` did."""
    if found != FORMAT:
        raise ModelError(f"{where} has plan format {found}, this version reads {FORMAT}", advice=REBUILD)
    if revision != REVISION:
        raise ModelError(
            f"{where} was made by revision {revision} of cutting and calibration, this version has {REVISION}",
            advice=REBUILD,
        )


def profile_bytes(profile: ProfileFile) -> bytes:
    """`profiles/<device class>.json`."""
    return json.dumps(profile.model_dump(mode="json"), indent=1, allow_nan=False).encode()


def parse_profile(data: bytes, *, plan_sha256: str, where: Path) -> ProfileFile:
    """A profile of this very plan. Raises ModelError naming the file."""
    fields = _json_object(data, where=str(where), advice=_PROFILE_AGAIN)
    try:
        profile = ProfileFile.model_validate(fields)
    except ValidationError as exc:
        raise ModelError(f"{where}: {_first(exc)}", advice=_PROFILE_AGAIN) from exc
    if profile.plan_sha256 != plan_sha256:
        raise ModelError(f"{where} was measured for another plan", advice=_PROFILE_AGAIN)
    if profile.device_class != where.stem:
        raise ModelError(f"{where} is the profile of device class {profile.device_class!r}", advice=_PROFILE_AGAIN)
    if "full" not in profile.times:
        raise ModelError(f"{where} has no time of the whole model", advice=_PROFILE_AGAIN)
    return profile


def table_file(cut: str) -> str:
    """Name of a cut's calibration table within the folder."""
    return f"{PARTS}/{cut}.table"


def check_files(plan: PlanFile, *, where: str) -> None:
    """Raises ModelError unless `plan.files` names what its cuts and rows need, and nothing of cuts it has not."""
    needed = {MANIFEST, FULL}
    needed |= {part_file(cut.name, part) for cut in plan.cuts for part in ("head", "tail")}
    tables = {table_file(cut.name) for cut in plan.cuts if cut.table_id}
    needed |= tables
    for row in plan.rows:
        if row.variant == "small":
            needed.add(SMALL_MANIFEST)
        if row.variant:
            needed.add(part_file(row.cut, "head", row.variant) if row.cut else local_file(row.variant))
    cuts = {cut.name for cut in plan.cuts}
    for name in sorted(needed - plan.files.keys()):
        raise ModelError(f"{where} lists no {name}, which its cuts need", advice=REBUILD)
    for name in sorted(plan.files):
        stem = Path(name).name.split(".")
        known = len(stem) < 3 or stem[1] not in ("head", "tail") or stem[0] in cuts
        known = known and (stem[-1] != "table" or name in tables)
        if not _FILE_NAME.fullmatch(name) or not known:
            raise ModelError(f"{where} lists {name!r}, which no plan of these cuts has", advice=REBUILD)


def read_limited(path: Path, *, advice: str = REBUILD) -> bytes:
    """A small file's bytes. Raises ModelError naming it if it is missing, unreadable or far too large."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path} is larger than any of its kind", advice=advice)
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise ModelError(f"{path} is missing", advice=advice) from exc
    except OSError as exc:
        raise ModelError(f"{path} can't be read: {exc.strerror or exc}", advice=advice) from exc


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file. Raises ModelError naming it if it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise ModelError(
            f"{path} can't be read: {exc.strerror or exc}", advice="check the path and its rights"
        ) from exc


def manifest_json(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest; their sha256 is part of the plan's key."""
    return json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=1).encode()


def anchors_bytes(anchors: npt.NDArray[np.float32]) -> bytes:
    """The .npy form, the same bytes for the same anchors (A, 4)."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(anchors, np.float32), allow_pickle=False)
    return buffer.getvalue()


def read_anchors(data: bytes) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float32)
    return array


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of the folder. Raises ModelError."""
    return _json_object(read_limited(path), where=str(path), advice=REBUILD)


def _json_object(data: bytes, *, where: str, advice: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as exc:
        raise ModelError(f"{where} can't be read: {exc}", advice=advice) from exc
    if not isinstance(value, dict):
        raise ModelError(f"{where} does not hold an object", advice=advice)
    return value


def _valid_plan(fields: dict[str, Any], *, where: str) -> PlanFile:
    try:
        return PlanFile.model_validate(fields)
    except ValidationError as exc:
        raise ModelError(f"{where}: {_first(exc)}", advice=REBUILD) from exc


def _first(exc: ValidationError) -> str:
    first = exc.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
