"""A whole plan of the default detector on real frames of a street: what the policy gets to choose from."""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np
import pytest

from splitmesh.inference.planning.builder import ensure_plan
from splitmesh.plan.bundle.old_read import Bundle
from splitmesh.plan.manifest import parse_manifest
from splitmesh.policy.point import OperatingPoint, Place

SHARED = Path(__file__).parents[3] / "shared"
MODEL = SHARED / "models" / "coco_ssdlite_mobilenetv2_300.onnx"
ANCHORS = SHARED / "models" / "coco_ssd_anchors.npy"
CLIP = SHARED / "media" / "vtest.avi"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (MODEL.exists() and CLIP.exists()), reason="needs the shared model and clip"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, float]:
    manifest = parse_manifest(
        {
            "name": "ssdlite-reference",
            "input": "image",
            "width": 300,
            "height": 300,
            "scale": [2 / 255] * 3,
            "offset": [-1.0] * 3,
            "postprocess": {"kind": "ssd", "anchors": "anchors.npy"},
            "labels": ["background", *(f"label {i}" for i in range(1, 91))],
            "licence": "Apache-2.0",
            "source": "shared data",
        },
        where="test",
    )
    pictures = []
    with av.open(str(CLIP)) as container:
        for frame in container.decode(video=0):
            pictures.append(frame.reformat(300, 300, format="rgb24").to_ndarray())
            if len(pictures) == 32:
                break
    start = time.process_time()
    bundle = ensure_plan(
        MODEL,
        manifest,
        pictures,
        tmp_path_factory.mktemp("plan") / "ssdlite.plan",
        progress=lambda stage, fraction: None,
        anchors=np.load(ANCHORS),
        frame_interval_ms=100.0,
    )
    return bundle, time.process_time() - start


def of(bundle: Bundle, place: Place, cut: str = "") -> list[OperatingPoint]:
    return [p for p in bundle.points if p.place is place and p.cut == cut]


def test_early_middle_and_late_cut_differ_in_head_time(built: tuple[Bundle, float]) -> None:
    bundle, cpu_s = built
    assert [c.name for c in bundle.cuts] == ["n17-24x75x75", "n36-32x38x38", "n65-64x19x19", "n104-96x19x19"]
    assert all(c.parity_error < 1e-4 for c in bundle.cuts)
    assert not bundle.plan.dropped
    profile = bundle.plan.profile
    shares = [profile[f"head {c.name}"].p50_ms / profile["full"].p50_ms for c in bundle.cuts]
    assert shares == sorted(shares)
    assert shares[0] < 0.35 and 0.3 < shares[2] < 0.6 and shares[3] > shares[0] + 0.15
    assert cpu_s < 60, "a build must stay a matter of seconds"


def test_every_cut_and_the_picture_offer_something(built: tuple[Bundle, float]) -> None:
    bundle, _ = built
    remote = [p for p in bundle.points if p.remote]
    assert 8 <= len(remote) <= 16
    assert len({p.cut for p in remote}) >= 4
    for point in remote:
        assert 0.3 < point.fidelity <= 1.0
        assert 500 < point.payload_bytes < 300_000


def test_features_of_the_small_cut_are_smaller_than_the_picture_at_the_same_answer(
    built: tuple[Bundle, float],
) -> None:
    bundle, _ = built
    finest = max(of(bundle, Place.FRAME), key=lambda p: p.fidelity)
    rival = [p for p in of(bundle, Place.SPLIT, "n65-64x19x19") if p.fidelity >= finest.fidelity - 0.01]
    assert rival and min(p.payload_bytes for p in rival) < 0.6 * finest.payload_bytes


def test_tracking_decays_on_a_street_with_pedestrians(built: tuple[Bundle, float]) -> None:
    bundle, _ = built
    assert bundle.plan.track_samples > 50
    assert 10 < bundle.track_kappa < 500
