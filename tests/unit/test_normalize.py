import numpy as np
import pytest

from splitmesh.errors import FrameShapeError
from splitmesh.frames.normalize import Normalizer

RGB = np.random.default_rng(3).integers(0, 256, (7, 9, 3)).astype(np.uint8)


def test_rgb_to_planes_with_scale_and_offset() -> None:
    scale, offset = (2 / 255, 1.0, 0.5), (-1.0, 0.0, 3.0)
    tensor = Normalizer(9, 7, "RGB", scale, offset).normalize(RGB)
    assert tensor.shape == (1, 3, 7, 9)
    assert tensor.dtype == np.float32
    expected = (RGB * np.array(scale, np.float32) + np.array(offset, np.float32)).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(tensor, expected, rtol=1e-6, atol=1e-6)


def test_bgr_swaps_channels_and_scales_in_tensor_order() -> None:
    tensor = Normalizer(9, 7, "BGR", (1.0, 1.0, 1.0), (-104.0, -117.0, -123.0)).normalize(RGB)
    np.testing.assert_array_equal(tensor[0, 0], RGB[:, :, 2] - np.float32(104))
    np.testing.assert_array_equal(tensor[0, 2], RGB[:, :, 0] - np.float32(123))


def test_into_overwrites_a_used_buffer_and_equals_normalize_to_the_bit() -> None:
    normalizer = Normalizer(9, 7, "RGB", (0.017, 0.0175, 0.0174), (-2.1, -2.0, -1.8))
    tensor = np.full((1, 3, 7, 9), np.nan, np.float32)
    normalizer.into(RGB, tensor, scratch=np.empty((7, 9), np.uint8))
    np.testing.assert_array_equal(tensor, normalizer.normalize(RGB))


@pytest.mark.parametrize(
    "pixels",
    [RGB[:, :, :2], RGB[:6], RGB.astype(np.int16), RGB.transpose(1, 0, 2)],
    ids=["channels", "rows", "dtype", "axes"],
)
def test_refuses_other_pixels(pixels: np.ndarray) -> None:
    with pytest.raises(FrameShapeError, match=r"expected pixels \(7, 9, 3\) uint8"):
        Normalizer(9, 7).normalize(pixels)


def test_refuses_other_tensors_and_colours() -> None:
    with pytest.raises(FrameShapeError, match=r"expected a tensor \(1, 3, 7, 9\)"):
        Normalizer(9, 7).into(RGB, np.empty((3, 7, 9), np.float32))
    with pytest.raises(FrameShapeError, match="YUV"):
        Normalizer(9, 7, "YUV")
