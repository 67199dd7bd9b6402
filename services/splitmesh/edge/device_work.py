"""Owns the three things the edge's device does for a frame: the whole model, a head, a tail. Teaches γ_edge.

What it does only to learn gives way to all of them: it begins on an idle device and is given up when a frame comes. A
model's own run can't be, only what emulates a slower device.
"""

from __future__ import annotations

import time
from typing import TypeVar

from splitmesh.edge.device import Device, DeviceJob
from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.parts import Parts, Tensors
from splitmesh.frames.answer import Answer
from splitmesh.policy.audit import AuditSchedule
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World

T = TypeVar("T")


class DeviceWork:
    def __init__(self, device: Device, parts: Parts, world: World) -> None:
        self._device = device
        self._parts = parts
        self._world = world
        self._audits = AuditSchedule()
        self._spare: DeviceJob[Answer] | None = None
        """Runs only to learn, and alone: whatever else is submitted ends it."""

    @property
    def local_ms(self) -> float:
        """Expected device time of the whole model itself."""
        return self._world.edge_ms(self._world.by_name["local"].edge_ms)

    def backlog_ms(self, now_ns: int, *, urgent: bool = False) -> float:
        """What a job submitted now would wait."""
        spare = self._spare
        if spare is None:
            return self._device.backlog_ms(now_ns, urgent=urgent)
        ran_ms = (now_ns - spare.started_ns) / 1e6 if spare.started_ns else 0.0
        return max(0.0, spare.expected_ms / self._device.slowdown - ran_ms)

    def spare(self, frame: OpenFrame) -> DeviceJob[Answer] | None:
        """The whole model on a frame that has its answer, to audit that; None: none is due, or the device is busy."""
        now_ns = time.monotonic_ns()
        may_spare = self._world.may_spare and self._audits.due(now_ns, self.local_ms)
        if not may_spare or self.backlog_ms(now_ns) > 0:
            return None
        tensor = frame.prepared.tensor
        job = self._device.submit(lambda job: self._parts.full(job, "", tensor), expected_ms=self.local_ms)
        frame.readers.append(job)
        self._spare = job
        job.done.add_done_callback(lambda _: self._spared(job))
        return job

    def _spared(self, job: DeviceJob[Answer]) -> None:
        if job is self._spare:
            self._spare = None
        if job.started_ns:
            ran_ms = ((job.ended_ns or time.monotonic_ns()) - job.started_ns) / 1e6
            self._audits.spent(ran_ms)
            self._world.on_device_spare(ran_ms)

    def _give_way(self) -> None:
        if self._spare is not None:
            self._spare.cancel()
            self._spare = None

    def full(self, frame: OpenFrame) -> DeviceJob[Answer]:
        """The whole model: the one that a LOCAL point names, else (a frame that came back) the model itself."""
        self._give_way()
        variant, tensor = self._local_point(frame).variant, frame.prepared.tensor
        expected_ms = self._world.edge_ms(self._local_point(frame).edge_ms)
        job = self._device.submit(lambda job: self._parts.full(job, variant, tensor), expected_ms=expected_ms)
        frame.readers.append(job)
        return job

    def _local_point(self, frame: OpenFrame) -> OperatingPoint:
        return frame.point if frame.point.place is Place.LOCAL else self._world.by_name["local"]

    def head(self, frame: OpenFrame) -> DeviceJob[Tensors]:
        self._give_way()
        cut, variant, tensor = frame.point.cut, frame.point.variant, frame.prepared.tensor
        expected_ms = self._world.edge_ms(frame.point.edge_ms)
        job = self._device.submit(lambda job: self._parts.head(job, cut, variant, tensor), expected_ms=expected_ms)
        frame.readers.append(job)
        return job

    def tail(self, frame: OpenFrame, tensors: Tensors) -> DeviceJob[Answer]:
        """Urgent: the frame's timer has already fired."""
        self._give_way()
        cut = frame.point.cut
        expected_ms = self._world.edge_ms(frame.point.resume_ms)
        return self._device.submit(
            lambda job: self._parts.tail(job, cut, tensors), expected_ms=expected_ms, urgent=True
        )

    def take(self, frame: OpenFrame, job: DeviceJob[T], name: str) -> T:
        """The value of a finished job ("local", "head" or "resume"). Raises what the job raised."""
        value = job.done.result()
        profiled_ms = {
            "local": self._local_point(frame).edge_ms,
            "head": frame.point.edge_ms,
            "resume": frame.point.resume_ms,
        }[name]
        self._world.on_device(job.busy_ms, profiled_ms, job.ended_ns)
        self._audits.used(job.busy_ms)
        frame.timed("device_queue", job.queued_ns, job.started_ns)
        frame.timed(name, job.started_ns, job.ended_ns)
        return value

    def give_up(self, frame: OpenFrame, head: DeviceJob[Tensors]) -> None:
        """Nobody needs that head any more. If it runs, it is known to take longer than until now."""
        now_ns = time.monotonic_ns()
        if head.started_ns:
            self._world.on_device_given_up((now_ns - head.started_ns) / 1e6, frame.point.edge_ms, now_ns)
        head.cancel()
