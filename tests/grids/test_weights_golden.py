"""Weights against ESMF's and CDO's, at the tolerances an exact implementation reaches."""

from pathlib import Path

import numpy as np
import pytest

from tasks.grids.apply import apply
from tasks.grids.weights import load_weights, make

from .oracle import grid, largest, variables, weights

GREAT_CIRCLES = {"backend": "curvilinear"}


@pytest.mark.parametrize(
    ("name", "method", "options", "tolerance"),
    [
        ("cdo_g5_g2_con", "conservative", {}, 1e-12),
        ("cdo_g1p_eu05_con", "conservative", {}, 1e-12),
        ("cdo_g1p_eu05_bil", "bilinear", {}, 1e-13),
        ("esmf_g5_g2_conservative", "conservative", {**GREAT_CIRCLES, "norm": "dstarea"}, 1e-12),
        ("esmf_g5_g2_bilinear", "bilinear", GREAT_CIRCLES, 1e-14),
        ("esmf_g1p_eu05_bilinear", "bilinear", GREAT_CIRCLES, 1e-13),
        ("esmf_g1p_eu05_conservative", "conservative", {**GREAT_CIRCLES, "norm": "dstarea"}, 1e-12),
        ("esmf_lcc_us05_conservative", "conservative", {"norm": "dstarea"}, 1e-12),
        ("esmf_lcc_us05_conservative_normed", "conservative", {"norm": "fracarea"}, 1e-12),
        ("rwg_lcc_us05_conserve", "conservative", {"norm": "dstarea"}, 1e-12),
        # ESMF's Newton iteration stops early.
        ("esmf_lcc_us05_bilinear", "bilinear", {}, 1e-8),
        ("esmf_lcc_us05_nearest_s2d", "nearest", {"extrapolate": True}, 0),
    ],
)
def test_weights_are_those_of_another_program(name: str, method: str, options: dict, tolerance: float) -> None:
    source, target = (grid(n) for n in name.split("_")[1:3])
    golden, mine = weights(name), make(source, target, method, **options)
    assert largest(mine.matrix, golden.matrix) <= tolerance
    np.testing.assert_array_equal(mine.empty, golden.empty)
    # The same entries, but for corners that weigh nothing, which some programs write down.
    assert np.count_nonzero(golden.matrix.data > 1e-12) == np.count_nonzero(mine.matrix.data > 1e-12)


def test_areas_and_fractions_are_esmfs() -> None:
    golden, mine = weights("rwg_lcc_us05_conserve"), make(grid("lcc"), grid("us05"), "conservative", norm="dstarea")
    for name in ("area_a", "area_b", "frac_a", "frac_b"):
        np.testing.assert_allclose(getattr(mine, name), getattr(golden, name), atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize("method", ["conservative", "bilinear"])
def test_masked_source_cells_are_left_out_as_esmf_leaves_them_out(method: str) -> None:
    (mask,) = variables("grid_g5", "mask")
    golden = weights(f"esmf_g5_g2_srcmask_{method}{'_normed' if method == 'conservative' else ''}")
    mine = make(grid("g5"), grid("g2"), method, source_mask=mask == 1, backend="curvilinear")
    assert largest(mine.matrix, golden.matrix) < 1e-12
    np.testing.assert_array_equal(mine.empty, golden.empty)
    assert 0 < mine.empty.sum() < mine.empty.size


def test_both_backends_leave_the_same_targets_empty() -> None:
    """A bilinear target with a share from a masked cell gets nothing; the pole rows see a mean of other cells."""
    (mask,) = variables("grid_g5", "mask")
    circles = make(grid("g5"), grid("g2"), "bilinear", source_mask=mask == 1)
    assert circles.matrix[:, np.flatnonzero(mask.ravel() == 0)].nnz == 0
    inner = np.abs(grid("g2").points[0]) < 87
    np.testing.assert_array_equal(circles.empty[inner], weights("esmf_g5_g2_srcmask_bilinear").empty[inner])


@pytest.mark.parametrize("method", ["conservative", "bilinear"])
def test_masked_fields_are_esmfs(method: str) -> None:
    name = f"esmf_g5_g2_srcmask_{method}{'_normed' if method == 'conservative' else ''}"
    (mask, field), (golden,) = variables("grid_g5", "mask", "f"), variables(name, "fm_masked")
    mine = apply(make(grid("g5"), grid("g2"), method, source_mask=mask == 1, backend="curvilinear"), field)
    there = ~np.isnan(mine)
    np.testing.assert_allclose(mine[there], golden[there], rtol=2e-6)
    # xESMF gives zero where there is nothing, or NaN where it is told to.
    assert (np.isnan(golden[~there]) | (golden[~there] == 0)).all()


def test_the_conventions_differ_where_rows_are_wide() -> None:
    circles = make(grid("g5"), grid("g2"), "conservative")
    great = make(grid("g5"), grid("g2"), "conservative", backend="curvilinear")
    assert 5e-3 < largest(circles.matrix, great.matrix) < 1.1e-2
    assert (circles.convention, great.convention) == ("circles", "great-circles")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "method", "options", "tolerance"),
    [
        ("cdo/lcc_us05_nn_weights", "nearest", {"extrapolate": True}, 0),
    ],
)
def test_more_weights(shared: Path, name: str, method: str, options: dict, tolerance: float) -> None:
    golden = load_weights((shared / "oracle" / f"{name}.nc").read_bytes())
    source, target = (grid(n) for n in name.split("/")[1].split("_")[:2])
    assert largest(make(source, target, method, **options).matrix, golden.matrix) <= tolerance


@pytest.mark.real
@pytest.mark.parametrize("name", ["esmf/g5_g2_nearest_s2d", "cdo/g5_g2_nn_weights", "cdo/g1p_eu05_nn_weights"])
def test_the_nearest_is_as_near_as_theirs(shared: Path, name: str) -> None:
    """Programs break ties differently, so distances are compared."""
    golden = load_weights((shared / "oracle" / f"{name}.nc").read_bytes())
    source, target = (grid(n) for n in name.split("/")[1].split("_")[:2])
    mine = make(source, target, "nearest")
    assert not mine.empty.any()
    theirs, ours = (np.linalg.norm(w.matrix @ source.vectors - target.vectors, axis=1) for w in (golden, mine))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.real
def test_the_bilinear_weights_of_cdo_between_the_last_rows(shared: Path) -> None:
    """Beyond the last row CDO extrapolates by a rule of its own."""
    golden = load_weights((shared / "oracle/cdo/g5_g2_bil_weights.nc").read_bytes())
    within = np.abs(grid("g2").points[0]) <= 87.5
    mine = make(grid("g5"), grid("g2"), "bilinear")
    assert largest(mine.matrix[within], golden.matrix[within]) < 1e-13
