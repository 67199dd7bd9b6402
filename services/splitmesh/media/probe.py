"""Owns which hardware decoders this machine can use for a codec, found by trying them. Decodes nothing."""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import av
from av.codec.codec import UnknownCodecError
from av.codec.hwaccel import HWAccel, hwdevices_available

log = logging.getLogger(__name__)

_VIDIOC_QUERYCAP = 0x80685600
_CAP_DEVICE_CAPS = 0x80000000
_CAP_M2M_MPLANE = 0x00004000
_CAP_M2M = 0x00008000


class Acceleration(StrEnum):
    """How pictures are decoded, and what may be asked for."""

    AUTO = "auto"
    """The first that works of cuda, v4l2m2m, vaapi, else software."""
    NONE = "none"
    """Software."""
    CUDA = "cuda"
    V4L2M2M = "v4l2m2m"
    VAAPI = "vaapi"


@dataclass(frozen=True, slots=True)
class DecoderProbe:
    """`usable`: the device opened. `detail`: why not, or what was found."""

    acceleration: Acceleration
    usable: bool
    detail: str


@dataclass(frozen=True, slots=True)
class DecoderChoice:
    """What to decode with: `acceleration` is never AUTO; `reason` says why that one."""

    acceleration: Acceleration
    reason: str

    @property
    def label(self) -> str:
        return "software" if self.acceleration is Acceleration.NONE else self.acceleration.value


def probe_decoders(codec: str, *, devices: Iterable[Path] | None = None) -> list[DecoderProbe]:
    """One row per hardware way to decode `codec` (FFmpeg's name: h264, hevc, …), best first.

    `devices`: where to look for V4L2 decoders, by default /dev/video*.
    """
    nodes = sorted(Path("/dev").glob("video*")) if devices is None else list(devices)
    return [
        _probe_device(codec, Acceleration.CUDA),
        _probe_v4l2m2m(codec, nodes),
        _probe_device(codec, Acceleration.VAAPI),
    ]


def choose_decoder(requested: Acceleration, probes: Iterable[DecoderProbe]) -> DecoderChoice:
    """The decoder for a request; an unusable one falls back to software with a reason that says why. Pure."""
    if requested is Acceleration.NONE:
        return DecoderChoice(Acceleration.NONE, "software decoding was asked for")
    rows = list(probes)
    if requested is Acceleration.AUTO:
        for row in rows:
            if row.usable:
                return DecoderChoice(row.acceleration, row.detail)
        why = "; ".join(f"{row.acceleration}: {row.detail}" for row in rows)
        return DecoderChoice(Acceleration.NONE, f"no hardware decoder is usable ({why})")
    for row in rows:
        if row.acceleration is requested:
            if row.usable:
                return DecoderChoice(requested, row.detail)
            return DecoderChoice(Acceleration.NONE, f"{requested} is not usable: {row.detail}")
    return DecoderChoice(Acceleration.NONE, f"{requested} was not probed")


def is_memory_to_memory(capabilities: int, device_capabilities: int) -> bool:
    """True if VIDIOC_QUERYCAP's words describe a codec device rather than a camera."""
    caps = device_capabilities if capabilities & _CAP_DEVICE_CAPS else capabilities
    return bool(caps & (_CAP_M2M | _CAP_M2M_MPLANE))


def _probe_device(codec: str, acceleration: Acceleration) -> DecoderProbe:
    name = acceleration.value
    if name not in hwdevices_available():
        return DecoderProbe(acceleration, False, f"this FFmpeg build has no {name}")
    try:
        HWAccel(name).create(av.Codec(codec, "r"))
    except (NotImplementedError, UnknownCodecError):
        return DecoderProbe(acceleration, False, f"{name} does not decode {codec}")
    except av.error.FFmpegError as exc:
        return DecoderProbe(acceleration, False, f"no {name} device opens ({exc.strerror})")
    return DecoderProbe(acceleration, True, f"a {name} device decodes {codec}")


def _probe_v4l2m2m(codec: str, nodes: list[Path]) -> DecoderProbe:
    name = v4l2m2m_name(codec)
    if name not in av.codecs_available:
        return DecoderProbe(Acceleration.V4L2M2M, False, f"this FFmpeg build has no {name}")
    for node in nodes:
        if _is_codec_node(node):
            return DecoderProbe(Acceleration.V4L2M2M, True, f"{node} is a codec device")
    return DecoderProbe(Acceleration.V4L2M2M, False, "no /dev/video* is a codec device")


def v4l2m2m_name(codec: str) -> str:
    """FFmpeg's name of the V4L2 memory-to-memory decoder for `codec`."""
    return f"{codec}_v4l2m2m"


def _is_codec_node(node: Path) -> bool:
    reply = bytearray(104)  # struct v4l2_capability: driver[16] card[32] bus_info[32] version caps device_caps …
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    except OSError as exc:
        log.debug("can't open %s: %s", node, exc)
        return False
    try:
        fcntl.ioctl(descriptor, _VIDIOC_QUERYCAP, reply)
    except OSError as exc:
        log.debug("%s is no V4L2 device: %s", node, exc)
        return False
    finally:
        os.close(descriptor)
    capabilities, device_capabilities = struct.unpack_from("=II", reply, 84)
    return is_memory_to_memory(capabilities, device_capabilities)
