"""The checks on fields as they come from the centres: faults that are in the files, and no others.

Values, names, units and levels are ecCodes' own.
"""

from collections.abc import Iterator
from pathlib import Path

import eccodes
import numpy as np
import pytest

from tasks.checks.acceptance import CheckConfig
from tasks.checks.check import Finding, Subject
from tasks.checks.limits import rows
from tasks.checks.verdict import suite

FAULTS = {
    # Celsius in fields that say K, and three of nine points missing.
    "step_60m.grib": {("range", "2t"), ("missing", "2t")},
    # Heights and temperatures of clouds that are not there: -5000 gpm and -500 K instead of a missing value.
    "nam.t00z.awp21100.tm00.grib2": {("range", "gh"), ("range", "t")},
    # A sample with not one value in it.
    "hpa_and_pa.grib": {("missing", "t")},
    # Wind of a wave model, on the sea only: the recipe has to say so.
    "gfswave.t18z.atlocn.0p16.f001.grib2": {("missing", "ws"), ("missing", "u"), ("missing", "v")},
}


def subjects(path: Path) -> Iterator[Subject]:
    with path.open("rb") as stream:
        while (handle := eccodes.codes_grib_new_from_file(stream)) is not None:
            try:
                yield _subject(handle)
            finally:
                eccodes.codes_release(handle)


def _subject(handle: int) -> Subject:
    values = eccodes.codes_get_values(handle).astype("float32")
    if eccodes.codes_get(handle, "bitmapPresent", int):
        values[values == np.float32(eccodes.codes_get(handle, "missingValue", float))] = np.nan
    gridded = eccodes.codes_get(handle, "gridType") in ("regular_ll", "regular_gg", "lambert", "mercator", "rotated_ll")
    if gridded:
        values = values.reshape(eccodes.codes_get(handle, "Nj", int), eccodes.codes_get(handle, "Ni", int))
    else:
        values = values[None]
    level_type = eccodes.codes_get(handle, "typeOfLevel")
    attributes: dict[str, object] = {"level_type": level_type}
    if level_type == "isobaricInhPa":
        attributes["level"] = eccodes.codes_get(handle, "level", int)
    return Subject(
        name=eccodes.codes_get(handle, "shortName"),
        units=eccodes.codes_get(handle, "units"),
        window=eccodes.codes_get(handle, "stepType"),
        values=values[None, None, None],
        present=np.ones((1, 1, 1), bool),
        lead_time=np.array([eccodes.codes_get(handle, "endStep", int)]),
        member=None,
        level=None,
        latitude=np.zeros(values.shape),
        longitude=np.zeros(values.shape),
        attributes=attributes,
    )


@pytest.mark.real
def test_only_the_faults_that_are_in_the_files_are_found(shared: Path) -> None:
    checks = suite(CheckConfig())
    found: dict[str, set[tuple[str, str]]] = {}
    unknown, fields = set(), 0
    for path in sorted(p for p in (shared / "data").rglob("*.grib*") if p.suffix != ".idx"):
        for subject in subjects(path):
            fields += 1
            if not rows(subject):
                unknown.add(subject.name)
            findings: list[Finding] = [check.run(subject) for check in checks]
            bad = {(f.check, f.variable) for f in findings if f.score < 1 and f.variable != "unknown"}
            if bad and rows(subject):
                found.setdefault(path.name, set()).update(bad)
    assert found == FAULTS
    assert fields > 900
    # The table knows most of what the centres send.
    assert len(unknown) < 30
