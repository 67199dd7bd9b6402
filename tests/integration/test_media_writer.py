"""The annotated video, read back with the decoder."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import av
import numpy as np
import pytest

from splitmesh.errors import FrameShapeError, OutputError
from splitmesh.frames.answer import Answer
from splitmesh.frames.geometry import Fit, Placement
from splitmesh.frames.outcome import Outcome
from splitmesh.media.overlay import class_color, legend
from splitmesh.media.writer import OUTCOME_COLORS, AnnotatedWriter

GREY = np.full((240, 320, 3), 90, np.uint8)


def boxes(*rows: tuple[float, float, float, float], points: int = 0) -> Answer:
    n = len(rows)
    return Answer(
        np.array(rows, np.float32).reshape(n, 4),
        np.full(n, 0.87, np.float32),
        np.arange(n).astype(np.uint16),
        np.full((n, points, 2), 0.9, np.float32),
    )


def read(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def near(pixel: np.ndarray, color: tuple[int, int, int], tolerance: int = 60) -> bool:
    return bool(np.abs(pixel.astype(int) - color).max() <= tolerance)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_boxes_have_the_colour_of_the_outcome(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "new folder" / "out.mp4"
    with AnnotatedWriter(path, 320, 240, 25) as writer:
        for _ in range(5):
            writer.write(GREY, boxes((0.25, 0.5, 0.75, 0.9)), labels=["person"], outcome=outcome)
    frames = read(path)
    assert len(frames) == 5
    bottom_edge = frames[-1][int(0.9 * 239) - 1 : int(0.9 * 239) + 2, 160]
    assert any(near(pixel, OUTCOME_COLORS[outcome]) for pixel in bottom_edge)
    assert near(frames[-1][160, 160], (90, 90, 90), 12)  # inside the box the picture stays
    tag = frames[-1][104:118, 80:130]
    assert tag.std() > 20  # the label is written above the box
    assert near(frames[-1][20, 20], (90, 90, 90), 12)


def test_banner_points_and_classes_without_labels(tmp_path: Path) -> None:
    with AnnotatedWriter(tmp_path / "out.mp4", 320, 240, 25) as writer:
        writer.write(GREY, boxes((0, 0.3, 0.5, 0.5), (-1, -1, 2, 2), points=5), banner="split u8zstd 87 of 150 ms")
        writer.write(GREY, Answer.empty())
    frames = read(tmp_path / "out.mp4")
    assert frames[0][4:14, 30:200].max() > 180 and frames[0][2, 310].max() < 60  # light text on a dark bar
    assert near(frames[0][216, 288], OUTCOME_COLORS[Outcome.LOCAL])
    assert near(frames[1][8, 200], (90, 90, 90), 12)


def test_the_label_of_a_box_at_the_top_is_written_below_the_banner(tmp_path: Path) -> None:
    with AnnotatedWriter(tmp_path / "out.mp4", 320, 240, 25) as writer:
        writer.write(GREY, boxes((0.25, 0.0, 0.75, 0.9)), labels=["person"], banner="local 87 ms")
    bar_px = 10 + 6  # the smallest font and its margin
    assert read(tmp_path / "out.mp4")[0][bar_px + 3 : bar_px + 12, 84:130].std() > 20


def masked(mask: np.ndarray, **boxed: tuple[float, float, float, float]) -> Answer:
    return dataclasses.replace(boxes(*boxed.values()), tensors={"mask": mask})


def test_a_mask_is_painted_in_the_colours_of_its_classes(tmp_path: Path) -> None:
    mask = np.zeros((24, 32), np.uint8)
    mask[:, 16:] = 1
    mask[12:, 16:] = 2
    labels = ["background", "road", "sky"]
    with AnnotatedWriter(tmp_path / "out.mp4", 320, 240, 25) as writer:
        writer.write(GREY, masked(mask, box=(0.1, 0.6, 0.4, 0.9)), labels=labels)
        writer.write(GREY, Answer.of_tensors({"mask": mask.astype(np.float32), "raw": np.ones((2, 240, 320))}))
    painted, plain = read(tmp_path / "out.mp4")
    for x, y, label in ((240, 60, 1), (240, 180, 2)):
        half = tuple((90 + channel) // 2 for channel in class_color(label))
        assert near(painted[y, x], half, 25), (x, y)
    assert class_color(1) != class_color(2)
    assert near(painted[60, 80], (90, 90, 90), 12)  # background
    assert near(painted[int(0.9 * 239), 80], OUTCOME_COLORS[Outcome.LOCAL])  # boxes are drawn on top
    assert painted[212:240, 2:40].std() > 30  # road and sky in the legend
    assert near(painted[180, 20], (90, 90, 90), 12)
    assert all(near(pixel, (90, 90, 90), 12) for pixel in plain[::60, ::60].reshape(-1, 3))  # no class map, no paint


def test_the_padding_of_a_letterbox_is_no_part_of_the_painted_picture(tmp_path: Path) -> None:
    """A 320x160 picture in a square input: classes 1 above, 2 in the picture's upper and 3 in its lower half."""
    mask = np.repeat(np.repeat(np.array([1, 2, 3, 1], np.uint8), 8)[:, None], 32, axis=1)
    wide = GREY[:160]
    with AnnotatedWriter(tmp_path / "out.mp4", 320, 160, 25) as writer:
        writer.write(wide, masked(mask), placement=Placement(320, 160, 64, 64, Fit.LETTERBOX))
        writer.write(wide, masked(mask), placement=Placement(320, 160, 64, 64, Fit.STRETCH))
    boxed, stretched = read(tmp_path / "out.mp4")

    def label(picture: np.ndarray, y: int) -> int:
        halves = {n: np.add(class_color(n), 90) // 2 for n in (1, 2, 3)}
        return min(halves, key=lambda n: int(np.abs(picture[y, 200].astype(int) - halves[n]).sum()))

    assert [label(boxed, y) for y in (5, 75, 85, 155)] == [2, 2, 3, 3]
    assert [label(stretched, y) for y in (5, 75, 85, 155)] == [1, 2, 3, 1]


def test_the_legend_names_the_largest_classes() -> None:
    mask = np.array([[0] * 9 + [3] * 5 + [1] * 7 + [40]], np.uint8)
    assert [name for name, _ in legend(mask, ["Background", "cat", "dog", "cow"])] == ["cat", "cow", "#40"]
    assert [name for name, _ in legend(mask, [])] == ["#1", "#3", "#40"]
    assert [name for name, _ in legend(mask, ["road", "cat", "dog", "cow"])] == ["road", "cat", "cow", "#40"]
    assert len(legend(np.arange(100, dtype=np.uint8)[None], [])) == 6


def test_time_stamps_are_kept_and_made_to_increase(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with AnnotatedWriter(path, 64, 64, 10) as writer:
        for pts_ms in (0, 100, 400, 400, 300, 900):
            writer.write(GREY, Answer.empty(), pts_ns=pts_ms * 1_000_000)
    with av.open(str(path)) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert times[:3] == pytest.approx([0, 0.1, 0.4], abs=0.001)
    assert times[2] < times[3] < times[4] < 0.41
    assert times[5] == pytest.approx(0.9, abs=0.001)


def test_decoded_frames_of_another_size_and_odd_sizes(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    frame = av.VideoFrame.from_ndarray(GREY, format="rgb24").reformat(format="yuv420p")
    with AnnotatedWriter(path, 161, 99, 29.97) as writer:
        assert (writer.width, writer.height) == (160, 98)
        writer.write(frame, boxes((0.1, 0.5, 0.9, 0.9)))
        writer.write(GREY, Answer.empty())
        assert writer.frames == 2
    assert [f.shape for f in read(path)] == [(98, 160, 3)] * 2


def test_input_picture_is_not_drawn_on(tmp_path: Path) -> None:
    picture = GREY.copy()
    with AnnotatedWriter(tmp_path / "out.mp4", 320, 240, 25) as writer:
        writer.write(picture, boxes((0.1, 0.1, 0.9, 0.9)), banner="x")
    assert (picture == 90).all()


def test_unwritable_places(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(OutputError, match="can't write the video") as refused:
        AnnotatedWriter(blocker / "out.mp4", 64, 64, 25)
    assert refused.value.path == str(blocker / "out.mp4")
    with pytest.raises(OutputError):
        AnnotatedWriter(Path("/proc/splitmesh/out.mp4"), 64, 64, 25)
    with pytest.raises(OutputError):
        AnnotatedWriter(tmp_path / "out.unknown-format", 64, 64, 25)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError) as full:
        writer = AnnotatedWriter(path, 320, 240, 25)
        try:
            for _ in range(200):
                noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
                writer.write(noise, Answer.empty())
        finally:
            writer.close()
    assert full.value.path == str(path)


def test_wrong_pictures_and_use_after_close(tmp_path: Path) -> None:
    writer = AnnotatedWriter(tmp_path / "out.mp4", 64, 64, 25)
    with pytest.raises(FrameShapeError):
        writer.write(np.zeros((4, 4), np.uint8), Answer.empty())
    writer.close()
    writer.close()
    assert not writer.path.exists()  # no picture, no video
    with pytest.raises(OutputError, match="already finished"):
        writer.write(GREY, Answer.empty())


def test_a_killed_writer_leaves_a_video_that_plays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    script = """
        import os, sys, numpy as np
        from splitmesh.frames.answer import Answer
        from splitmesh.media.writer import AnnotatedWriter
        writer = AnnotatedWriter(sys.argv[1], 320, 240, 10)
        for n in range(60):
            writer.write(np.full((240, 320, 3), n, np.uint8), Answer.empty())
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=False, env=os.environ)
    assert done.returncode == -9
    assert len(read(path)) >= 40


def test_keeps_up_with_a_camera(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (272, 640, 3), np.uint8)
    mask = np.random.default_rng(1).integers(0, 21, (65, 65), np.uint8)
    answer = masked(mask, **{str(n): (0.1 * n, 0.3, 0.1 * n + 0.2, 0.8) for n in range(6)})
    with AnnotatedWriter(tmp_path / "out.mp4", 640, 272, 25) as writer:
        started, cpu = time.perf_counter(), time.thread_time()
        for _ in range(40):
            writer.write(picture, answer, labels=["person"] * 6, banner="local 31 ms of 150 ms")
        spent = min(time.perf_counter() - started, time.thread_time() - cpu)
    assert 40 / spent > 60  # noise is the worst case for the encoder; real pictures run above 150 per second
