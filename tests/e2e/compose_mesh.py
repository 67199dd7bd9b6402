"""The compose mesh as a test starts it: a project of its own name, on ports of its own, gone when the test is."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import pytest
from tools.images import ImagesError, Options, find_engine, succeeds

from splitmesh import Client

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE = PROJECT / "deploy" / "compose"
DEPLOY_BIN = PROJECT / ".venv-deploy" / "bin"
COMMAND_S = 180.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compose_command() -> list[str]:
    """`docker compose` where there is Docker, else podman-compose. Raises ImagesError, LookupError."""
    if find_engine() == "docker":
        return ["docker", "compose"]
    found = shutil.which("podman-compose", path=f"{DEPLOY_BIN}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise LookupError("needs podman-compose (make e2e-compose installs it)")
    return [found]


def need_images() -> None:
    """Skips the test where there is no engine or an image of the mesh is missing."""
    try:
        compose_command()
        options = Options.of(os.environ)
    except (LookupError, ImagesError) as exc:
        pytest.skip(str(exc))
    for role in ("edge", "cloud", "gateway", "link", "broker"):
        if not succeeds([options.engine, "image", "inspect", options.image(role)]):
            pytest.skip(f"{options.image(role)} is not here: make images")


class ComposeMesh:
    """knobs: variables of deploy/compose/.env that take other values."""

    def __init__(self, services: tuple[str, ...], **knobs: str) -> None:
        self.name = f"splitmesh-e2e-{os.getpid()}"
        self.services = services
        self.command = compose_command()
        self.engine = "docker" if self.command[0] == "docker" else "podman"
        ports = ("EDGE_PORT", "GATEWAY_PORT", "GRPC_PORT", "HUB_MONITOR_PORT")
        self.knobs = {name: str(free_port()) for name in ports} | knobs
        self.edge_port = int(self.knobs["EDGE_PORT"])

    def __enter__(self) -> ComposeMesh:
        subprocess.run(
            [sys.executable, PROJECT / "tools" / "compose_state.py"],
            env=os.environ | self.knobs,
            check=True,
            timeout=60,
        )
        try:
            self.compose("up", "--detach", *self.services)
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for service in self.services:
                print(f"--- {service}\n{self.logs(service)[-3000:]}")
        self.down()

    def down(self) -> None:
        self.compose("down", "--volumes", check=False)

    def compose(self, *arguments: str, check: bool = True) -> str:
        command = [*self.command, "--project-name", self.name, "--profile", "core", *arguments]
        done = subprocess.run(
            command, cwd=COMPOSE, env=os.environ | self.knobs, capture_output=True, text=True, timeout=COMMAND_S
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def run(self, *arguments: str) -> str:
        """One command of the engine; what it printed."""
        return subprocess.run(
            [self.engine, *arguments], check=True, capture_output=True, text=True, timeout=COMMAND_S
        ).stdout

    def container(self, service: str) -> str:
        """The id of the service's container."""
        label = "com.docker.compose"
        filters = (f"label={label}.project={self.name}", f"label={label}.service={service}")
        return self.run("ps", "--all", "--quiet", *(part for each in filters for part in ("--filter", each))).strip()

    def address(self, service: str, network: str) -> str:
        """Its address on a network of the mesh; this machine reaches it there. Raises KeyError if it is not on it."""
        shown = json.loads(self.run("inspect", self.container(service)))[0]["NetworkSettings"]["Networks"]
        return str(shown[f"{self.name}_{network}"]["IPAddress"])

    def logs(self, service: str) -> str:
        done = subprocess.run([self.engine, "logs", self.container(service)], capture_output=True, text=True)
        return done.stdout + done.stderr

    def read(self, service: str, path: str, to: Path) -> bytes:
        """A file of a container, running or not."""
        self.run("cp", f"{self.container(service)}:{path}", str(to))
        return to.read_bytes()

    def is_ready(self, service: str, port: int) -> bool:
        """True if its /readyz says so, asked from inside."""
        code = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/readyz', timeout=3)"
        command = [self.engine, "exec", self.container(service), "python3", "-c", code]
        return subprocess.run(command, capture_output=True, timeout=COMMAND_S).returncode == 0

    def exit_status(self, service: str) -> int:
        return int(self.run("inspect", "--format", "{{.State.ExitCode}}", self.container(service)))

    def leftovers(self) -> dict[str, list[str]]:
        """What of the project is still there, by kind."""
        kinds = {
            "containers": ("ps", "--all", "--format", "{{.Names}}"),
            "networks": ("network", "ls", "--format", "{{.Name}}"),
            "volumes": ("volume", "ls", "--format", "{{.Name}}"),
        }
        return {
            kind: [line for line in self.run(*command).splitlines() if line.startswith(self.name)]
            for kind, command in kinds.items()
        }

    def leaf_is_connected(self) -> bool:
        """True if the hub has a leaf node at this moment."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.knobs["HUB_MONITOR_PORT"]), timeout=5)
        try:
            connection.request("GET", "/leafz")
            return bool(json.loads(connection.getresponse().read())["leafnodes"])
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()

    def edges_at_the_gateway(self) -> list[str]:
        """Names of the edges that the gateway shows to who has the token."""
        state = COMPOSE / "state"
        token = (state / "token").read_text(encoding="ascii").strip()
        ca = state / "gateway" / "ca.pem"
        with Client(f"127.0.0.1:{self.knobs['GRPC_PORT']}", token=token, ca=ca) as client:
            return [stream.report.edge_id for stream in client.streams()]
