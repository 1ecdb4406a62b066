"""The WKT of well-known grid mappings that is kept, beside what pyproj makes of them."""

import json

import pytest
from pyproj import CRS

from tasks.grids import mapping

KNOWN = mapping._known()


@pytest.mark.parametrize("text", sorted(KNOWN))
def test_what_is_kept_means_what_pyproj_makes(text: str) -> None:
    kept, made = CRS.from_wkt(KNOWN[text]), CRS.from_cf(json.loads(text))
    assert kept == made
    assert kept.ellipsoid == made.ellipsoid


@pytest.mark.parametrize("attributes", [mapping.SPHERE, mapping.WGS84])
def test_the_usual_ones_are_kept(attributes) -> None:
    assert mapping.attributes(attributes)["crs_wkt"] == KNOWN[json.dumps(dict(attributes), sort_keys=True)]
