"""Owns reading torch weight files (.pth) without torch and without running what they hold.

A .pth is a pickle. Of everything a pickle may ask for, only the four names that rebuild a plain tensor are
allowed; anything else raises ModelError before it is imported. Both layouts are read: the zip archive
(torch >= 1.6) and the older run of pickles followed by raw storages.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from splitmesh.errors import ModelError
from splitmesh.models.convert_graph import Array

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("u1"),
}


@dataclass
class _Storage:
    key: str
    dtype: np.dtype[Any]
    size: int
    values: Array | None = None


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def materialise(self) -> Array:
        """A C-ordered copy. Raises ModelError if the view leaves its storage."""
        values = self.storage.values
        if values is None:
            raise ModelError(f"torch storage {self.storage.key!r} holds no data")
        if len(self.shape) != len(self.stride) or min((*self.shape, *self.stride, self.offset, 0)) < 0:
            raise ModelError(f"torch tensor has shape {self.shape} and strides {self.stride}")
        if math.prod(self.shape) > len(values):
            raise ModelError(f"torch tensor of shape {self.shape} is larger than its storage of {len(values)}")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        if math.prod(self.shape) and last >= len(values):
            raise ModelError(f"torch tensor reaches element {last} of a storage with {len(values)}")
        steps = tuple(s * values.itemsize for s in self.stride)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps, writeable=False).copy()


@dataclass(frozen=True)
class _StorageType:
    name: str


def _rebuild(
    storage: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_grad_and_hooks: Any
) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ModelError("torch file rebuilds a tensor from something that is not a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


def _rebuild_parameter(tensor: _Tensor, *_grad_and_hooks: Any) -> _Tensor:
    return tensor


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class _Unpickler(pickle.Unpickler):
    """Knows no name outside `_ALLOWED` and the storage types, so nothing in the file can be run."""

    def __init__(self, file: io.BytesIO, storages: dict[str, _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _StorageType(name)
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            self._refuse(f"asks for {module}.{name}")
        return allowed

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], _StorageType):
            self._refuse("refers to something that is not a storage")
        _, kind, key, _device, size = pid[:5]
        if len(pid) > 5 and pid[5] is not None:
            self._refuse("holds storage views, which are not read")
        if not isinstance(size, int) or size < 0:
            self._refuse(f"names a storage of {size!r} elements")
        return self._storages.setdefault(str(key), _Storage(str(key), _STORAGES[kind.name], size))

    @staticmethod
    def _refuse(what: str) -> NoReturn:
        raise ModelError(f"torch file {what}: only plain tensors are read")


@dataclass
class _Reader:
    payload: bytes
    storages: dict[str, _Storage] = field(default_factory=dict)

    def load(self) -> Any:
        stream = io.BytesIO(self.payload)
        if zipfile.is_zipfile(stream):
            return self._load_zip(stream)
        stream.seek(0)
        return self._load_legacy(stream)

    def _load_zip(self, stream: io.BytesIO) -> Any:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
            pickles = [n for n in names if n.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ModelError(f"torch archive holds {len(pickles)} data.pkl, not one")
            root = pickles[0].removesuffix("data.pkl")
            if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
                raise ModelError("torch archive is not little endian")
            state = _Unpickler(io.BytesIO(archive.read(pickles[0])), self.storages).load()
            for storage in self.storages.values():
                self._fill(storage, archive.read(f"{root}data/{storage.key}"))
        return state

    def _load_legacy(self, stream: io.BytesIO) -> Any:
        if _Unpickler(stream, {}).load() != _LEGACY_MAGIC or _Unpickler(stream, {}).load() != _LEGACY_PROTOCOL:
            raise ModelError("not a torch weight file: neither a zip archive nor torch's older format")
        if _Unpickler(stream, {}).load().get("little_endian") is not True:
            raise ModelError("torch file is not little endian")
        state = _Unpickler(stream, self.storages).load()
        for key in _Unpickler(stream, {}).load():
            storage = self.storages.get(str(key))
            if storage is None:
                raise ModelError(f"torch file holds storage {key!r} that no tensor uses")
            (count,) = struct.unpack("<q", stream.read(8))
            if count != storage.size:
                raise ModelError(f"torch storage {key!r} holds {count} elements, not {storage.size}")
            self._fill(storage, stream.read(count * storage.dtype.itemsize))
        return state

    @staticmethod
    def _fill(storage: _Storage, raw: bytes) -> None:
        if len(raw) != storage.size * storage.dtype.itemsize:
            raise ModelError(f"torch storage {storage.key!r} is cut short")
        storage.values = np.frombuffer(raw, storage.dtype)


def read_state_dict(payload: bytes) -> dict[str, Array]:
    """Names and tensors of a torch `state_dict` file, each a C-ordered array of its own dtype.

    Raises ModelError if the bytes are not such a file, are damaged, or hold anything but tensors.
    """
    try:
        state = _Reader(payload).load()
    except ModelError:
        raise
    except Exception as exc:  # pickle and zipfile raise almost anything on damaged bytes
        raise ModelError(f"torch file is damaged: {exc}") from exc
    if not isinstance(state, dict) or not all(isinstance(v, _Tensor) for v in state.values()):
        raise ModelError("torch file holds no plain state_dict")
    return {str(name): tensor.materialise() for name, tensor in state.items()}
