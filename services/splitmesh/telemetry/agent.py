"""Owns the metrics of an agent, and their label values. Names are `splitmesh_agent_<noun>_<unit>`."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from splitmesh.telemetry.metrics import Asked, BoundedNames

_MOST_STREAMS = 64


class AgentMetrics:
    """What an agent exposes. One per registry; methods are called on the event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self._streams = BoundedNames(_MOST_STREAMS)
        self.streams = Gauge("splitmesh_agent_streams", "Streams, by state", ["state"], registry=r)
        self.restarts_total = Counter(
            "splitmesh_agent_restarts", "Edges started again after they had failed", ["stream"], registry=r
        )
        self.commands_total = Counter(
            "splitmesh_agent_commands", "Commands, by what became of them", ["outcome"], registry=r
        )

    def restarted(self, stream: str) -> None:
        self.restarts_total.labels(self._streams(stream)).inc()

    def asked(self, outcome: Asked) -> None:
        self.commands_total.labels(outcome.value).inc()

    def see(self, states: Mapping[str, int]) -> None:
        """states: streams in each state that there is."""
        for state, count in states.items():
            self.streams.labels(state).set(count)
