"""Coastlines: the packaged files read, cuts left out, shifted into windows."""

import numpy as np
import pytest

from tasks.exports.coastlines import coastlines, coastlines_between


@pytest.mark.parametrize("resolution", ["c", "l"])
def test_lines_stay_on_earth_and_have_no_cuts(resolution):
    lines = coastlines(resolution)
    assert len(lines) > 700
    for line in lines:
        lon, lat = line[:, 0], line[:, 1]
        assert np.abs(lon).max() <= 180
        assert np.abs(lat).max() <= 90
        assert not ((np.abs(lon[1:]) == 180) & (np.abs(lon[:-1]) == 180)).any()
        assert np.abs(np.diff(lon)).max() < 40
    assert min(line[:, 1].min() for line in lines) > -86  # the coast of Antarctica, not the pole


def test_known_capes_lie_on_the_coast():
    points = np.concatenate(coastlines("i"))
    for lon, lat in (
        (-9.50, 38.78),
        (18.47, -34.35),
        (-5.61, 36.0),
        (-5.71, 50.07),
    ):  # Roca, Good Hope, Tarifa, Land's End
        assert np.hypot((points[:, 0] - lon) * np.cos(np.radians(lat)), points[:, 1] - lat).min() < 0.05


@pytest.mark.parametrize(("west", "east"), [(0, 360), (-180, 180), (140, 220), (-200, -150), (170, 190)])
def test_every_window_is_covered(west, east):
    points = np.concatenate(coastlines_between(west, east))
    here = points[(points[:, 0] >= west) & (points[:, 0] <= east)]
    everywhere = np.concatenate(coastlines())
    wanted = np.mod(everywhere[:, 0] - west, 360) <= east - west
    assert len(here) >= wanted.sum()
