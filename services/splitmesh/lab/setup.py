"""Owns what the processes of a lab run are started with. Pure: settings in, their values out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitmesh.lab.commands import Cores
from splitmesh.settings.model import LabSettings

WORKER: Final = "lab-cloud"
EDGE: Final = "lab-edge"
GATEWAY: Final = "gateway"
TENANT: Final = "default"


@dataclass(frozen=True, slots=True)
class MeshSetup:
    """One run. plan: the bundle's folder. out: where all that it leaves goes."""

    settings: LabSettings
    source: str
    plan: Path
    out: Path
    cores: Cores

    @property
    def worker_names(self) -> list[str]:
        """On the bus."""
        return [WORKER, *(f"{WORKER}-{number}" for number in range(2, self.settings.workers + 1))]

    @property
    def results(self) -> Path:
        return self.out / "results.jsonl"

    @property
    def link_series(self) -> Path:
        """What the link carried, second by second."""
        return self.out / "link.jsonl"

    @property
    def spans(self) -> Path:
        return self.out / "spans"

    def run_file(self, name: str) -> Path:
        """A file that only matters while the mesh runs, or when something went wrong."""
        return self.out / "processes" / f"{name.removeprefix('lab-')}"

    def ready_file(self, name: str) -> Path:
        return self.run_file(f"{name}.ready.json")

    def worker_values(self, broker: str, name: str) -> dict[str, Any]:
        return {**self._model_values(broker, name), "web_port": 0}

    def edge_values(self, broker: str) -> dict[str, Any]:
        settings = self.settings
        return {
            **self._model_values(broker, EDGE),
            "source": self.source,
            "policy": settings.policy,
            "deadline_ms": settings.deadline_ms,
            "edge_slowdown": settings.edge_slowdown,
            "pace": True,
            "loop": Path(self.source).is_file(),
            "duration_s": settings.duration_s,
            "max_fps": settings.max_fps,
            "results": self.results,
            "web_port": 0,
            "uplink_budget_bps": settings.uplink_budget_bps,
            "allow_experiments": True,
        }

    def link_values(self, broker: str) -> dict[str, Any]:
        settings = self.settings
        return {
            "listen": "127.0.0.1:0",
            "target": broker.removeprefix("nats://"),
            "link": settings.link,
            "outage": settings.outage,
            "duration_s": settings.duration_s,
            "seed": settings.seed,
            "start": "signal",
            "commands": True,
            "stats": self.link_series,
            "ready_json": self.ready_file("link"),
            "log_json": settings.log_json,
        }

    def gateway_values(self, broker: str) -> dict[str, Any]:
        """It offers the run's model; one with a manifest elsewhere it can't read, and offers the default one."""
        settings = self.settings
        return {
            "nats_url": broker,
            "name": "lab-gateway",
            "grpc_port": 0,
            "web_port": settings.web_port,
            "lab_control": True,
            "tenant": TENANT,
            "ready_json": self.ready_file(GATEWAY),
            "log_json": settings.log_json,
            **({} if settings.manifest else {"models": (settings.model,)}),
        }

    def _model_values(self, broker: str, name: str) -> dict[str, Any]:
        settings = self.settings
        values: dict[str, Any] = {
            "nats_url": broker,
            "tenant": TENANT,
            "name": name,
            "model": settings.model,
            "plan": self.plan,
            "threads": settings.threads,
            "span_log": self.spans / name.removeprefix("lab-"),
            "trace_ratio": settings.trace_ratio,
            "log_json": settings.log_json,
            "ready_json": self.ready_file(name),
        }
        return values | ({"manifest": settings.manifest} if settings.manifest else {})
