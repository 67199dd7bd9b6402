"""Torch weight files, assembled opcode by opcode, and files that ask for more than tensors."""

import contextlib
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.errors import ModelError
from splitmesh.models.convert_torch import read_state_dict

VALUES = np.arange(12, dtype=np.float32)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(number(v) for v in values) + b"t"


def storage(kind: str = "FloatStorage", key: str = "0", size: int = 12, *, legacy: bool = False) -> bytes:
    rest = b"N" if legacy else b""
    return (
        b"("
        + text("storage")
        + b"ctorch\n"
        + kind.encode()
        + b"\n"
        + text(key)
        + text("cpu")
        + number(size)
        + rest
        + b"tQ"
    )


def tensor(source: bytes, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    parts = source + number(offset) + numbers(*shape) + numbers(*stride) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + parts + b"tR"


def state(**tensors: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(k) + v for k, v in tensors.items()) + b"u."


def zipped(pickled: bytes, raw: bytes = VALUES.tobytes(), byteorder: bytes = b"little") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byteorder)
        archive.writestr("archive/data/0", raw)
    return out.getvalue()


def legacy(pickled: bytes, raw: bytes = VALUES.tobytes(), size: int = 12) -> bytes:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, system))
    return head + pickled + pickle.dumps(["0"], 2) + struct.pack("<q", size) + raw


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_views_of_one_storage(layout: str) -> None:
    old = layout == "legacy"
    source = storage(legacy=old)
    pickled = state(
        a=tensor(source, 0, (3, 4), (4, 1)), b=tensor(source, 1, (2, 2), (1, 4)), c=tensor(source, 11, (), ())
    )
    found = read_state_dict(legacy(pickled) if old else zipped(pickled))
    assert list(found) == ["a", "b", "c"]
    np.testing.assert_array_equal(found["a"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(found["b"], [[1, 5], [2, 6]])
    assert found["c"] == 11
    assert found["a"].flags.c_contiguous and found["a"].dtype == np.float32


def test_other_dtypes() -> None:
    raw = np.arange(3, dtype=np.int64)
    pickled = state(steps=tensor(storage("LongStorage", size=3), 0, (3,), (1,)))
    np.testing.assert_array_equal(read_state_dict(zipped(pickled, raw.tobytes()))["steps"], raw)


class _Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def test_a_pickle_that_would_run_a_command_is_refused_and_does_not_run(tmp_path) -> None:
    mark = tmp_path / "ran"
    for payload in (
        zipped(pickle.dumps(_Runs(f"touch {mark}"), 2)),
        legacy(pickle.dumps(_Runs(f"touch {mark}"), 2)),
        pickle.dumps(_Runs(f"touch {mark}"), 2),
    ):
        with pytest.raises(ModelError, match="asks for"):
            read_state_dict(payload)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["builtins\neval", "torch\nload", "numpy\nfromfile", "torch._utils\n__builtins__"])
def test_names_that_are_not_tensors_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="only plain tensors"):
        read_state_dict(zipped(b"\x80\x02c" + name.encode() + b"\n."))


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "damaged"),
        (b"not a pickle at all", "damaged"),
        (pickle.dumps(3, 2), "not a torch weight file|damaged"),
        (zipped(state(a=tensor(storage(), 0, (13,), (1,)))), "larger than its storage"),
        (zipped(state(a=tensor(storage(), 0, (1 << 20, 1 << 20), (0, 0)))), "larger than its storage"),
        (zipped(state(a=tensor(storage(), 1, (12,), (1,)))), "reaches element 12"),
        (zipped(state(a=tensor(storage(), 10, (2, 2), (4, 1)))), "reaches element"),
        (zipped(state(a=tensor(storage(), -1, (2,), (1,)))), "shape"),
        (zipped(state(a=tensor(storage(), 0, (2,), (-1,)))), "strides"),
        (zipped(state(a=tensor(storage(), 0, (12,), (1,))), VALUES.tobytes()[:-1]), "cut short"),
        (zipped(state(a=tensor(storage(key="9"), 0, (12,), (1,)))), "damaged"),
        (zipped(state(a=tensor(storage(), 0, (12,), (1,))), byteorder=b"big"), "little endian"),
        (legacy(state(a=tensor(storage(legacy=True), 0, (12,), (1,))), size=11), "holds 11 elements"),
        (legacy(state(a=tensor(storage(legacy=True), 0, (12,), (1,))), VALUES.tobytes()[:-4]), "cut short"),
        (zipped(state(a=number(3))), "no plain state_dict"),
        (zipped(pickle.dumps([1], 2)), "no plain state_dict"),
    ],
)
def test_damaged_files_are_refused(payload: bytes, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        read_state_dict(payload)


GOOD = legacy(state(a=tensor(storage(legacy=True), 0, (3, 4), (4, 1))))


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_changed_byte_gives_tensors_or_a_model_error(at: int, value: int) -> None:
    damaged = GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
    with contextlib.suppress(ModelError):
        assert all(isinstance(v, np.ndarray) for v in read_state_dict(damaged).values())
