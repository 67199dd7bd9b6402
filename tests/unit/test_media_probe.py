from pathlib import Path

import pytest
from av.codec.hwaccel import hwdevices_available

from splitmesh.media.probe import Acceleration, DecoderProbe, choose_decoder, is_memory_to_memory, probe_decoders

CUDA, V4L2, VAAPI = Acceleration.CUDA, Acceleration.V4L2M2M, Acceleration.VAAPI


def rows(*usable: Acceleration) -> list[DecoderProbe]:
    return [DecoderProbe(a, a in usable, "found" if a in usable else "absent") for a in (CUDA, V4L2, VAAPI)]


@pytest.mark.parametrize(
    ("asked", "usable", "chosen"),
    [
        (Acceleration.AUTO, (CUDA, V4L2), CUDA),
        (Acceleration.AUTO, (V4L2, VAAPI), V4L2),
        (Acceleration.AUTO, (), Acceleration.NONE),
        (Acceleration.NONE, (CUDA,), Acceleration.NONE),
        (VAAPI, (CUDA, VAAPI), VAAPI),
        (VAAPI, (CUDA,), Acceleration.NONE),
    ],
)
def test_choice(asked: Acceleration, usable: tuple[Acceleration, ...], chosen: Acceleration) -> None:
    choice = choose_decoder(asked, rows(*usable))
    assert choice.acceleration is chosen
    assert choice.label == ("software" if chosen is Acceleration.NONE else chosen.value)


def test_fallback_says_why() -> None:
    assert choose_decoder(CUDA, rows(V4L2)).reason == "cuda is not usable: absent"
    assert "v4l2m2m: absent" in choose_decoder(Acceleration.AUTO, rows()).reason


@pytest.mark.parametrize(
    ("capabilities", "device_capabilities", "expected"),
    [
        (0x00008000, 0, True),
        (0x84204000, 0x04204000, True),
        (0x85200001, 0x04200001, False),
        (0x84A08001, 0x04A00000, False),  # the driver's other node is the codec, this one is not
    ],
)
def test_codec_devices_are_told_from_cameras(capabilities: int, device_capabilities: int, expected: bool) -> None:
    assert is_memory_to_memory(capabilities, device_capabilities) is expected


def test_probe_reports_each_way_once_and_reads_real_nodes(tmp_path: Path) -> None:
    fake = tmp_path / "video0"
    fake.write_bytes(b"")
    probes = probe_decoders("h264", devices=[fake, tmp_path / "gone"])
    assert [p.acceleration for p in probes] == [CUDA, V4L2, VAAPI]
    assert not probes[1].usable and "no /dev/video* is a codec device" in probes[1].detail
    if "vaapi" not in hwdevices_available():
        assert "no vaapi" in probes[2].detail


def test_a_codec_without_hardware_is_not_usable() -> None:
    assert not any(p.usable for p in probe_decoders("huffyuv", devices=[]))
    assert not any(p.usable for p in probe_decoders("no-such-codec", devices=[]))
