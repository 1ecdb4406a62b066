"""What providers' messages say of the variables of the recipes, encoded by ecCodes where no provider is at hand.

``python -m tests.forecasts.provider_headers gfs ifs-ens ifs-hres demo`` checks in what the recipes' sources would be
learnt to be; the tests hold it against the real files.
"""

import sys

import numpy as np

from tasks.forecasts import decode, metadata
from tasks.forecasts.message import without_data
from tasks.forecasts.recipe import ForecastRecipe
from tasks.forecasts.selection import Variable
from tasks.forecasts.template import Learnt, Template
from tasks.lake import recipe as recipes

NCEP = {
    "TMP": (0, 0), "DPT": (0, 6), "RH": (1, 1), "UGRD": (2, 2), "VGRD": (2, 3), "GUST": (2, 22), "PRMSL": (3, 1),
    "PRES": (3, 0), "PWAT": (1, 3), "CAPE": (7, 6), "TCDC": (6, 1), "PRATE": (1, 7), "DSWRF": (4, 192),
    "DLWRF": (5, 192), "HGT": (3, 5), "SPFH": (1, 0),
}  # fmt: skip
"""NCEP's abbreviation -> category and number of discipline 0 (code table 4.2 and NCEP's local entries)."""

SURFACES = {
    "heightAboveGround": 103, "surface": 1, "meanSea": 101, "atmosphereSingleLayer": 200, "atmosphere": 10,
    "isobaricInhPa": 100, None: 101,
}  # fmt: skip
# After the imports above, which load PROJ: ecCodes must not come first.
import eccodes  # noqa: E402

STATISTICS = {"avg": 0, "accum": 1, "max": 2, "min": 3}


def header(recipe: ForecastRecipe, variable: Variable) -> bytes:
    """A message of the variable as the provider writes it, without data."""
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    try:
        for key, value in _keys(recipe, variable).items():
            eccodes.codes_set(handle, key, value)
        count = eccodes.codes_get(handle, "Ni") * eccodes.codes_get(handle, "Nj")
        eccodes.codes_set_values(handle, np.arange(count) % 7.0)
        ncep = recipe.source.type == "gfs"
        eccodes.codes_set(handle, "packingType", "grid_complex_spatial_differencing" if ncep else "grid_ccsds")
        start = without_data(eccodes.codes_get_message(handle))
        assert start is not None
        return start
    finally:
        eccodes.codes_release(handle)


def _keys(recipe: ForecastRecipe, variable: Variable) -> dict[str, int | str]:
    source = recipe.source
    spacing, top = (2.0, 89.0) if source.type == "demo" else (0.25, 90.0)
    nx, ny = int(360 / spacing), int(2 * top / spacing) + 1
    west = 180 if source.type == "ecmwf" else 0
    keys: dict[str, int | str] = {
        "dataDate": 20261120, "dataTime": 0, "bitsPerValue": 16, "Ni": nx, "Nj": ny,
        "latitudeOfFirstGridPoint": int(top * 1e6), "latitudeOfLastGridPoint": -int(top * 1e6),
        "longitudeOfFirstGridPoint": int(west * 1e6),
        "longitudeOfLastGridPoint": int(((west - spacing) % 360) * 1e6),
        "iDirectionIncrement": int(spacing * 1e6), "jDirectionIncrement": int(spacing * 1e6),
    }  # fmt: skip
    windowed = variable.window in STATISTICS
    if source.type == "gfs":
        category, number = NCEP[variable.param]
        level = variable.levels[0] if variable.levels else 0
        kind = variable.level_type
        keys |= {
            "centre": "kwbc", "tablesVersion": 2, "localTablesVersion": 1, "shapeOfTheEarth": 6,
            "productDefinitionTemplateNumber": 8 if windowed else 0,
            "discipline": 0, "parameterCategory": category, "parameterNumber": number,
            "typeOfFirstFixedSurface": SURFACES[kind],
        }  # fmt: skip
        if variable.levels:
            keys |= {
                "scaleFactorOfFirstFixedSurface": 0,
                "scaledValueOfFirstFixedSurface": int(level * (100 if kind == "isobaricInhPa" else 1)),
            }
    else:
        member = recipe.select.members is not None
        keys |= {
            "centre": "ecmf",
            "shapeOfTheEarth": 6,
            "productDefinitionTemplateNumber": 8 * windowed + (3 if windowed else 1) * member,
            "shortName": variable.param,
        }
        if len(variable.levels) > 1:
            keys |= {"typeOfLevel": "isobaricInhPa", "level": int(variable.levels[0])}
    if windowed:
        if source.type == "gfs":
            keys["typeOfStatisticalProcessing"] = STATISTICS[str(variable.window)]
        keys["stepRange"] = "0-6" if variable.window_start == "run" else "3-6"
    else:
        keys["stepRange"] = 6
    return keys


def template(recipe: ForecastRecipe) -> Template:
    """What would be learnt of the recipe's source."""
    found, message = {}, b""
    for variable in recipe.select.variables:
        message = header(recipe, variable)
        said = decode.header(message)
        assert variable.units in (None, said.units), (variable.name, said)
        found[variable.name] = Learnt(
            said.short_name, said.cf_name, said.name, said.units, said.type_of_level, said.step_type, said.packing_type
        )
    return Template(found, message)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        loaded = recipes.load(name)
        assert isinstance(loaded, ForecastRecipe)
        print(*metadata.write(template(loaded), loaded), sep="\n")
