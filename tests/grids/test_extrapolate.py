"""Target cells that the source does not reach: from the nearest, or by inverse distance."""

import numpy as np
import pytest

from tasks.grids.apply import apply
from tasks.grids.grid import from_coordinates
from tasks.grids.weights import make

from .oracle import grid, weights


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
@pytest.mark.parametrize("how", ["nearest", "inverse-distance"])
def test_nothing_stays_empty_and_the_rest_stays(method: str, how: str) -> None:
    plain, filled = (make(grid("lcc"), grid("us05"), method, extrapolate=e) for e in ("none", how))
    if method == "nearest":
        assert not filled.empty.any()
        return
    assert plain.empty.any()
    assert not filled.empty.any()
    np.testing.assert_allclose(filled.row_sums[plain.empty], 1, atol=1e-12)
    kept = ~plain.empty
    assert abs(filled.matrix[kept] - plain.matrix[kept]).max() == 0
    assert filled.options["extrapolate"] == how


def test_the_nearest_is_esmfs() -> None:
    golden = weights("esmf_lcc_us05_nearest_s2d")
    made = make(grid("lcc"), grid("us05"), "bilinear", extrapolate="nearest")
    bare = make(grid("lcc"), grid("us05"), "bilinear").empty
    assert abs(made.matrix[bare] - golden.matrix[bare]).max() == 0


def test_inverse_distance_written_out() -> None:
    source = from_coordinates(np.array([0.0, 1, 2, 3]), np.array([0.0, 1, 2, 3]))
    target = from_coordinates(np.array([1.5, 6.0]), np.array([1.5, 7.0]))
    made = make(source, target, "bilinear", extrapolate="inverse-distance")
    distance = np.linalg.norm(source.vectors - target.vectors[3], axis=1)
    chosen = np.argsort(distance)[:8]
    expected = np.zeros(16)
    expected[chosen] = distance[chosen] ** -2 / (distance[chosen] ** -2).sum()
    np.testing.assert_allclose(made.matrix[[3]].toarray()[0], expected, atol=1e-12)


def test_masked_cells_are_no_neighbours_and_get_nothing() -> None:
    inside = np.ones(grid("lcc").shape, bool)
    inside[0] = False
    wanted = np.ones(grid("us05").shape, bool)
    wanted[:, 0] = False
    made = make(grid("lcc"), grid("us05"), "bilinear", extrapolate="nearest", source_mask=inside, target_mask=wanted)
    np.testing.assert_array_equal(~made.empty.reshape(wanted.shape), wanted)
    assert made.matrix[:, np.flatnonzero(~inside)].nnz == 0
    field = np.where(inside, 1.0, np.nan)
    np.testing.assert_allclose(apply(made, field)[wanted], 1)


def test_a_target_on_a_source_point_takes_that_alone() -> None:
    mask = np.zeros((36, 72), bool)
    mask[10, 20] = mask[10, 23] = True
    source = grid("g5")
    made = make(source, source, "bilinear", extrapolate="inverse-distance", source_mask=mask)
    np.testing.assert_array_equal(made.matrix[[10 * 72 + 20]].indices, [10 * 72 + 20])
    np.testing.assert_allclose(made.row_sums, 1, atol=1e-12)
