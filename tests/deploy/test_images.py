"""What the images are made by, and, where they were built, what is and is not in them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tools.compose_state import make_state
from tools.images import ROLES, ImagesError, Options, build_command, require_bases, succeeds

from splitmesh.web.server import StatusServer

PROJECT = Path(__file__).resolve().parents[2]
IMAGES = PROJECT / "deploy" / "images"
OURS = ("edge", "cloud", "gateway", "link", "load")


def ran(*command: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, **more)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def options() -> Options:
    try:
        return Options.of(os.environ)
    except ImagesError as exc:
        pytest.skip(str(exc))


@pytest.fixture(params=ROLES)
def image(request: pytest.FixtureRequest, options: Options) -> str:
    name = options.image(request.param)
    if not succeeds([options.engine, "image", "inspect", name]):
        pytest.skip(f"{name} is not here: make images")
    return name


def test_the_dockerfile_is_clean() -> None:
    hadolint = PROJECT / ".venv-deploy" / "bin" / "hadolint"
    if not hadolint.exists():
        pytest.skip("needs hadolint: make images-lint")
    done = ran(hadolint, IMAGES / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_every_role_is_a_target_and_none_runs_as_root() -> None:
    text = (IMAGES / "Dockerfile").read_text("utf-8")
    parents = {name: parent for parent, name in re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)}
    for role in ROLES:
        stage = role
        while stage != "runtime":  # KeyError: it stands on something else
            stage = parents[stage]
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]


@pytest.mark.parametrize("lock", ["dev.txt", "edge.txt"])
def test_what_is_picked_from_a_lock_has_its_version_and_hashes(lock: str) -> None:
    done = ran(sys.executable, IMAGES / "locked.py", PROJECT / "requirements" / lock, "numpy", "h2")
    assert done.returncode == 0
    assert re.findall(r"^(numpy|h2)==", done.stdout, re.MULTILINE) == ["numpy", "numpy", "h2"]  # one for each Python
    assert done.stdout.count("--hash=sha256:") > 10
    assert "annotated-types" not in done.stdout


def test_what_a_lock_does_not_hold_is_refused() -> None:
    done = ran(sys.executable, IMAGES / "locked.py", PROJECT / "requirements" / "edge.txt", "numpy", "leftpad")
    assert (done.returncode, done.stdout) == (1, "") and "does not lock leftpad" in done.stderr


def test_with_a_wheelhouse_the_build_has_no_network(tmp_path: Path) -> None:
    options = Options("podman", wheelhouse=tmp_path)
    assert "--network" not in build_command(options, "edge", ())
    (tmp_path / "numpy-2.0-py3-none-any.whl").touch()
    command = build_command(options, "edge", ())
    assert command[command.index("--network") + 1] == "none"
    assert f"wheelhouse={tmp_path}" in command


def test_a_base_that_is_nowhere_is_refused_with_a_way_out(options: Options) -> None:
    absent = dataclasses.replace(options, base="localhost/no-such-image:never")
    with pytest.raises(ImagesError, match=r"localhost/no-such-image:never is not here .*make images-base"):
        require_bases(absent)


async def test_the_health_check_tells_a_process_that_serves_from_one_that_does_not() -> None:
    web = StatusServer("127.0.0.1", 0, registry=CollectorRegistry(), status=dict, ready=lambda: (True, ""))
    await web.start()
    environment = os.environ | {"PORT": str(web.port)}
    check = (sys.executable, IMAGES / "healthcheck.py", "PORT")
    alive = await asyncio.to_thread(ran, *check, env=environment)
    await web.stop()
    dead = await asyncio.to_thread(ran, *check, env=environment)
    assert (alive.returncode, dead.returncode) == (0, 1)


async def test_the_health_check_asks_by_tls_where_a_certificate_is_set(tmp_path: Path) -> None:
    make_state(tmp_path, tenant="acme")
    tls = (tmp_path / "gateway" / "cert.pem", tmp_path / "gateway" / "key.pem")
    web = StatusServer("127.0.0.1", 0, registry=CollectorRegistry(), status=dict, ready=lambda: (True, ""), tls=tls)
    await web.start()
    check = (sys.executable, IMAGES / "healthcheck.py", "PORT", "CERT")
    environment = os.environ | {"PORT": str(web.port)}
    by_tls = await asyncio.to_thread(ran, *check, env=environment | {"CERT": str(tls[0])})
    in_the_clear = await asyncio.to_thread(ran, *check, env=environment | {"CERT": ""})
    await web.stop()
    assert (by_tls.returncode, in_the_clear.returncode) == (0, 1)


def test_an_image_says_what_it_is_and_runs_as_nobody(options: Options, image: str) -> None:
    shown = json.loads(ran(options.engine, "image", "inspect", image).stdout)[0]
    config = shown["Config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"\d+\.\d+.*", config["Labels"]["org.opencontainers.image.version"])
    if not image.split("/")[-1].startswith("load"):
        assert (config.get("Healthcheck") or shown.get("Healthcheck") or {}).get("Test")


def test_an_image_holds_no_build_tools_and_starts_on_a_read_only_root(options: Options, image: str) -> None:
    inside = (
        "for tool in gcc cc g++ make ld pip pip3; do command -v $tool && exit 3; done; "
        "test -e /opt/splitmesh/bin/pip && exit 4; touch /opt/x 2>/dev/null && exit 5; touch /tmp/x || exit 6; "
        "if test -d /opt/app; then splitmesh --version; else nats-server --version; fi"
    )
    hardened = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--network", "none", "--no-healthcheck")
    done = ran(options.engine, "run", "--rm", *hardened, "--entrypoint", "sh", image, "-c", inside)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"version|v\d", done.stdout)


def test_features_are_coded_by_compiled_code(options: Options) -> None:
    name = options.image("edge")
    if not succeeds([options.engine, "image", "inspect", name]):
        pytest.skip(f"{name} is not here: make images")
    probe = "from splitmesh.codec.planes.kernel import COMPILED; print(COMPILED is not None)"
    hardened = ("--rm", "--network", "none", "--no-healthcheck", "--entrypoint", "python")
    done = ran(options.engine, "run", *hardened, name, "-c", probe)
    assert done.stdout.strip() == "True", done.stderr
