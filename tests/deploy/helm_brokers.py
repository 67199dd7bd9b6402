"""The chart's hub and the leaf of an edge's pod as real servers of this machine, started as their containers are."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from helm_chart import Manifest, named

from splitmesh.bus.server import find_server

READY_S = 20.0


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def environment(container: Manifest, made: dict[str, dict[str, str]], replaced: dict[str, str]) -> dict[str, str]:
    """The container's variables as Kubernetes makes them: from Secrets, and with $(NAME) filled in."""
    given: dict[str, str] = {}
    for each in container["env"]:
        source: dict[str, Any] = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            secret = source["secretKeyRef"]
            given[each["name"]] = made[secret["name"].removeprefix("splitmesh-")][secret["key"]]
        elif "fieldRef" in source:
            given[each["name"]] = "1-node.example"
        else:
            text = re.sub(r"\$\((\w+)\)", lambda match: given[match[1]], each["value"])
            for old, new in replaced.items():
                text = text.replace(old, new)
            given[each["name"]] = text
    return given


class Brokers:
    """The hub's StatefulSet and the leaf of an edge's pod, on ports of this machine."""

    def __init__(self, chart: list[Manifest], made: dict[str, dict[str, str]], folder: Path) -> None:
        self.hub_port, self.leafnodes, self.hub_monitor, self.leaf_port, self.leaf_monitor = free_ports(5)
        self._chart, self._made, self._folder = chart, made, folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        hub = named(self._chart, "StatefulSet", "splitmesh-broker")["spec"]["template"]["spec"]["containers"][0]
        conf = named(self._chart, "ConfigMap", "splitmesh-broker")["data"]["nats.conf"]
        ports = {"4222": self.hub_port, "8222": self.hub_monitor, "7422": self.leafnodes}
        self._start("hub", conf, ports, environment(hub, self._made, {}), "broker-tls")
        edge = named(self._chart, "DaemonSet", "splitmesh-edge-a")["spec"]["template"]["spec"]
        conf = named(self._chart, "ConfigMap", "splitmesh-leaf")["data"]["leaf.conf"]
        here = {"splitmesh-broker.mesh.svc:7422": f"localhost:{self.leafnodes}"}
        variables = environment(edge["initContainers"][0], self._made, here)
        self._start("leaf", conf, {"4222": self.leaf_port, "8222": self.leaf_monitor}, variables, "leaf-tls")
        until = time.monotonic() + READY_S
        while not self.asked("/leafz").get("leafnodes"):
            assert time.monotonic() < until, (self._folder / "leaf" / "log").read_text("utf-8")
            for name, process in zip(("hub", "leaf"), self.processes, strict=True):
                assert process.poll() is None, (self._folder / name / "log").read_text("utf-8")
            time.sleep(0.05)

    def _start(self, name: str, text: str, ports: dict[str, int], variables: dict[str, str], tls: str) -> None:
        folder = self._folder / name
        (folder / "tls").mkdir(parents=True)
        for file, content in self._made[tls].items():
            (folder / "tls" / file).write_text(content, "ascii")
        for port, ours in ports.items():
            text = re.sub(rf"(?:0\.0\.0\.0|127\.0\.0\.1):{port}\b", f"127.0.0.1:{ours}", text)
        for path, here in {"/etc/nats": folder, "/data": folder / "data", "/tmp/nats.pid": folder / "pid"}.items():
            text = text.replace(path, str(here))
        (folder / "nats.conf").write_text(text, "utf-8")
        command = [find_server(), "--config", folder / "nats.conf"]
        with (folder / "log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | variables))

    def asked(self, page: str) -> dict[str, Any]:
        """What the hub's monitor says; {} while it is not up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.hub_monitor, timeout=2)
        try:
            connection.request("GET", page)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        except (OSError, http.client.HTTPException):
            return {}
        finally:
            connection.close()

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(10)
