"""A whole plan of the default detector on real frames of a street: what the policy gets to choose from."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.manifest import parse_manifest
from splitmesh.plan.pareto import LIMIT
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.provision.footage import read_footage

SHARED = Path(__file__).parents[3] / "shared"
MODEL = SHARED / "models" / "coco_ssdlite_mobilenetv2_300.onnx"
ANCHORS = SHARED / "models" / "coco_ssd_anchors.npy"
CLIP = SHARED / "media" / "vtest.avi"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),  # the plan is made within the first test
    pytest.mark.skipif(not (MODEL.exists() and CLIP.exists()), reason="needs the shared model and clip"),
]


def quiet(stage: str, share: float) -> None:
    pass


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
    start = time.process_time()
    footage = read_footage([str(CLIP)], [], manifest, quiet)
    request = PlanRequest(MODEL, manifest, np.load(ANCHORS))
    bundle = make_plan(request, footage, tmp_path_factory.mktemp("plan") / "ssdlite.plan", quiet)
    return bundle, time.process_time() - start


def of(bundle: Bundle, place: Place, cut: str = "") -> list[OperatingPoint]:
    return [p for p in bundle.points if p.place is place and p.cut == cut]


def test_early_middle_and_late_cut_differ_in_head_time(built: tuple[Bundle, float]) -> None:
    bundle, cpu_s = built
    assert 3 <= len(bundle.cuts) <= 4
    assert all(c.parity_max_rel < 1e-4 and c.deterministic and c.batchable for c in bundle.cuts)
    assert bundle.plan.deterministic and bundle.plan.batchable
    assert not [r for r in bundle.plan.rejected if r.stage in ("parity", "screen")]
    assert bundle.profile is not None
    times = bundle.profile.times
    shares = [times[f"head {c.name}"].p50_ms / times["full"].p50_ms for c in bundle.cuts]
    assert shares == sorted(shares) and shares[0] < 0.5 and shares[-1] > shares[0] + 0.15
    assert cpu_s < 180, "a build must stay a matter of a minute or two, whatever else runs here"


def test_every_cut_and_the_picture_offer_something(built: tuple[Bundle, float]) -> None:
    bundle, _ = built
    remote = [p for p in bundle.points if p.remote]
    assert 8 <= len(remote) <= LIMIT
    assert len({p.cut for p in remote}) >= 4
    for point in remote:
        assert 0.3 < point.fidelity <= 1.0
        assert 40 < point.payload_bytes < 300_000


def test_features_are_smaller_than_the_picture_at_the_same_answer(built: tuple[Bundle, float]) -> None:
    bundle, _ = built
    pictures = [r for r in bundle.plan.rows if not r.cut]
    features = [r for r in bundle.plan.rows if r.cut]
    finest = max(pictures, key=lambda r: r.fidelity)
    rival = [r for r in features if r.fidelity >= finest.fidelity - 0.01]
    assert rival and min(r.bytes_mean for r in rival) < 0.6 * finest.bytes_mean


def test_detectors_are_measured_as_the_field_does(built: tuple[Bundle, float]) -> None:
    bundle, _ = built
    assert bundle.plan.frames.parity == 16 and bundle.plan.frames.evaluate == 24 and bundle.plan.frames.fit > 20
    for row in bundle.plan.rows:
        assert set(row.metrics) == {"map50", "f1"} and 0 <= row.metrics["map50"] <= 1
        assert {part.objects for part in row.bins} <= {"0", "1-3", "4+"}


def test_tracking_decays_on_a_street_with_pedestrians(built: tuple[Bundle, float]) -> None:
    bundle, _ = built
    assert bundle.plan.track_samples > 50
    assert 10 < bundle.track_kappa < 500
