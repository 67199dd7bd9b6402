from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plan_graphs import classifier_manifest, moving_squares

from splitmesh.errors import DecodeError, FrameShapeError, SourceError
from splitmesh.media.clip import write_test_clip
from splitmesh.plan.footage import Clip, Footage, evenly, made_up
from splitmesh.provision.footage import CONSECUTIVE, SPREAD, read_footage

VIDEO = Clip(tuple(moving_squares(10)), 100.0)
STILLS = Clip(tuple(moving_squares(7)), None)


def silent(stage: str, share: float) -> None:
    pass


def test_fit_and_evaluate_share_no_frame_and_lose_none() -> None:
    footage = Footage((VIDEO, STILLS))
    fit, evaluate = footage.fit, footage.evaluate
    assert [s.where for s in fit] == [
        *(f"frame {i} of clip 1" for i in (1, 2, 3)),
        *(f"frame {i} of clip 2" for i in (3, 6)),
    ]
    assert not {s.where for s in fit} & {s.where for s in evaluate}
    assert len(fit) + len(evaluate) == len(footage.samples) == 17


@pytest.mark.parametrize("interval_ms", [None, 40.0])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_there_is_always_something_to_evaluate_on(count: int, interval_ms: float | None) -> None:
    footage = Footage((Clip(tuple(moving_squares(count)), interval_ms),))
    assert footage.evaluate and len(footage.fit) == count // 3


def test_only_frames_that_follow_another_have_a_motion() -> None:
    moved = [s.motion for s in Footage((VIDEO, STILLS)).samples]
    assert moved[0] is None and all(m is not None and 0 < m < 0.2 for m in moved[1:10])
    assert moved[10:] == [None] * 7


def test_the_hash_sees_every_pixel_and_what_follows_what() -> None:
    one = Footage((VIDEO,))
    assert one.sha256 == Footage((Clip(tuple(moving_squares(10)), 100.0),)).sha256
    altered = moving_squares(10)
    altered[4][3, 2, 1] ^= 1
    others = [
        Footage((Clip(tuple(altered), 100.0),)),
        Footage((Clip(VIDEO.pictures, 50.0),)),
        Footage((Clip(VIDEO.pictures, None),)),
        Footage((Clip(VIDEO.pictures[:5], 100.0), Clip(VIDEO.pictures[5:], 100.0))),
    ]
    assert len({one.sha256, *(o.sha256 for o in others)}) == 5
    assert Footage().sha256 == Footage((Clip((), None),)).sha256 == "" and not Footage((Clip((), None),))


def test_a_frame_of_another_size_is_named() -> None:
    pictures = (*VIDEO.pictures, np.zeros((47, 48, 3), np.uint8))
    with pytest.raises(FrameShapeError, match=r"frame 11 of clip 2 is \(47, 48, 3\) uint8.*\(48, 48, 3\)"):
        Footage((STILLS, Clip(pictures, 100.0))).check(height=48, width=48)
    with pytest.raises(FrameShapeError, match="float32"):
        Footage((Clip((np.zeros((48, 48, 3), np.float32),), None),)).check(height=48, width=48)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("length", "count", "wanted"),
    [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8]), (10, 1, [5]), (100, 4, [0, 33, 66, 99]), (0, 4, [])],
)
def test_evenly(length: int, count: int, wanted: list[int]) -> None:
    assert evenly(range(length), count) == wanted


def test_made_up_pictures_are_the_same_everywhere() -> None:
    one, other = made_up(height=40, width=24), made_up(height=40, width=24)
    assert len({s.where for s in one}) == 4
    for mine, theirs in zip(one, other, strict=True):
        assert mine.picture.shape == (40, 24, 3) and mine.picture.std() > 30
        np.testing.assert_array_equal(mine.picture, theirs.picture)


def test_videos_and_folders_become_clips(tmp_path: Path) -> None:
    clip = write_test_clip(tmp_path / "a.mp4", width=64, height=64, fps=10, frames=CONSECUTIVE + 40)
    short = write_test_clip(tmp_path / "b.mp4", width=64, height=64, fps=10, frames=12)
    folder = tmp_path / "pictures" / "deeper"
    folder.mkdir(parents=True)
    for index, suffix in enumerate(("png", "jpg", "bmp")):
        Image.fromarray(moving_squares(3)[index]).resize((90, 30)).save(folder / f"{index}.{suffix}")
    (folder / "notes.txt").write_text("no picture")
    told: list[tuple[str, float]] = []
    manifest = classifier_manifest()
    footage = read_footage(
        [str(clip), str(short)], [folder.parent], manifest, lambda stage, share: told.append((stage, share))
    )
    footage.check(height=48, width=48)
    assert [(len(c.pictures), c.interval_ms) for c in footage.clips] == [
        (CONSECUTIVE, 100.0),
        (20, None),  # every other one of the 40 that are left
        (12, 100.0),
        (3, None),
    ]
    assert len(footage.clips[1].pictures) <= SPREAD
    assert told[0] == ("frames", 0.0) and told[-1] == ("frames", 1.0) and len(told) == 4
    assert footage.sha256 == read_footage([str(clip), str(short)], [folder], manifest, silent).sha256


def test_patience_reads_further(tmp_path: Path) -> None:
    clip = write_test_clip(tmp_path / "a.mp4", width=64, height=64, fps=10, frames=2 * CONSECUTIVE + 60)
    footage = read_footage([str(clip)], [], classifier_manifest(), silent, patience=2.0)
    assert len(footage.clips[0].pictures) == 2 * CONSECUTIVE
    assert SPREAD < len(footage.clips[1].pictures) <= 2 * SPREAD


def test_pictures_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat(np.arange(48, dtype=np.uint8)[:, None, None] * 5, 48, 1).repeat(3, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to look at it: the dark upper edge comes to the right
    image.save(tmp_path / "a.png", exif=exif)
    (sample,) = read_footage([], [tmp_path], classifier_manifest(), silent).samples
    assert sample.picture[:, -1].mean() < 20 < 200 < sample.picture[:, 0].mean()


def test_sources_without_pictures_are_named(tmp_path: Path) -> None:
    manifest = classifier_manifest()
    with pytest.raises(SourceError, match="holds no picture"):
        read_footage([], [tmp_path], manifest, silent)
    with pytest.raises(SourceError, match="is no folder"):
        read_footage([], [tmp_path / "absent"], manifest, silent)
    with pytest.raises(SourceError, match=r"absent\.mp4"):
        read_footage([str(tmp_path / "absent.mp4")], [], manifest, silent)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(DecodeError, match=r"broken\.jpg"):
        read_footage([], [tmp_path], manifest, silent)
