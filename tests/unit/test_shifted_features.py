"""What the bench takes for features that are moved: whole cells are themselves, between them is a mean."""

from __future__ import annotations

import numpy as np
import pytest
from bench.shifted_features import moved

PLANES = np.random.default_rng(4).standard_normal((3, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("cells", [0, 1, 3])
def test_whole_cells_are_carried_over(cells: int) -> None:
    seen = moved(PLANES, float(cells))
    np.testing.assert_array_equal(seen[:, :, : 7 - cells], PLANES[:, :, cells:])
    np.testing.assert_array_equal(seen[:, :, 7 - cells :], np.repeat(PLANES[:, :, -1:], cells, axis=2))


def test_between_cells_is_a_weighed_mean() -> None:
    seen = moved(PLANES, 1.25)
    np.testing.assert_allclose(seen[:, :, :4], 0.75 * PLANES[:, :, 1:5] + 0.25 * PLANES[:, :, 2:6], rtol=1e-5)
