"""NOAA's words for a level, as ecCodes' typeOfLevel and a number.

Words: table 4.5 as wgrib2 prints it. Types: ecCodes' typeOfLevel concepts of WMO and of NCEP.
"""

import re
from functools import lru_cache

NAMED = {
    "surface": "surface",
    "mean sea level": "meanSea",
    "entire atmosphere": "atmosphere",
    "entire atmosphere (considered as a single layer)": "atmosphereSingleLayer",
    "entire ocean (considered as a single layer)": "oceanSingleLayer",
    "top of atmosphere": "nominalTop",
    "tropopause": "tropopause",
    "max wind": "maxWind",
    "0C isotherm": "isothermZero",
    "highest tropospheric freezing level": "highestTroposphericFreezing",
    "planetary boundary layer": "planetaryBoundaryLayer",
    "cloud base": "cloudBase",
    "cloud top": "cloudTop",
    "cloud ceiling": "cloudCeiling",
    "low cloud layer": "lowCloudLayer",
    "low cloud bottom level": "lowCloudBottom",
    "low cloud top level": "lowCloudTop",
    "middle cloud layer": "middleCloudLayer",
    "middle cloud bottom level": "middleCloudBottom",
    "middle cloud top level": "middleCloudTop",
    "high cloud layer": "highCloudLayer",
    "high cloud bottom level": "highCloudBottom",
    "high cloud top level": "highCloudTop",
    "convective cloud layer": "convectiveCloudLayer",
    "convective cloud bottom level": "convectiveCloudBottom",
    "convective cloud top level": "convectiveCloudTop",
    "boundary layer cloud layer": "boundaryLayerCloudLayer",
    "boundary layer cloud bottom level": "boundaryLayerCloudBottom",
    "boundary layer cloud top level": "boundaryLayerCloudTop",
    "level of adiabatic condensation from sfc": "adiabaticCondensation",
    "level of free convection": "freeConvection",
    "equilibrium level": "equilibrium",
    "sea bottom": "seaBottom",
}
"""Levels without a number."""

NUMBERED: dict[str, tuple[str | None, str | None, float]] = {
    "mb": ("isobaricInhPa", "isobaricLayer", 1),
    "mb above ground": ("pressureFromGround", "pressureFromGroundLayer", 100),
    "m above ground": ("heightAboveGround", "heightAboveGroundLayer", 1),
    "m above mean sea level": ("heightAboveSea", "heightAboveSeaLayer", 1),
    "m below ground": ("depthBelowLand", "depthBelowLandLayer", 1),
    "m underground": ("depthBelowLand", None, 1),
    "m below sea level": ("depthBelowSea", "depthBelowSeaLayer", 1),
    "sigma level": ("sigma", None, 1),
    "sigma layer": (None, "sigmaLayer", 1),
    "hybrid level": ("hybrid", None, 1),
    "hybrid layer": (None, "hybridLayer", 1),
    "K level": ("isothermal", None, 1),
    "K isentropic level": ("theta", None, 1),
    "in sequence": ("orderedSequenceData", None, 1),
}
"""Unit -> type of a level, type of a layer, factor to ecCodes' own unit (Pa for the distance from ground)."""

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_LEVEL = re.compile(rf"({_NUMBER})(?:-({_NUMBER}))? (.+)")
_VORTICITY = re.compile(rf"PV=({_NUMBER}) \(Km\^2/kg/s\) surface")


@lru_cache(maxsize=4096)
def level_of(text: str) -> tuple[str, float | None]:
    """Type and number of a level; of a layer, the number of its top (or first) level, as ecCodes has it.

    Numbers are in ecCodes' units: hPa for isobaricInhPa, m for heights, 1e-9 K m2 kg-1 s-1 (thousandths of a
    PVU, signed) for potentialVorticity. A text that ecCodes has no type for is itself the type, without number.
    """
    if text in NAMED:
        return NAMED[text], None
    if match := _LEVEL.fullmatch(text):
        first, second, unit = match.groups()
        single, layer, factor = NUMBERED.get(unit, (None, None, 1))
        kind = single if second is None else layer
        if kind is not None:
            return kind, float(first) * factor
    if match := _VORTICITY.fullmatch(text):
        return "potentialVorticity", round(float(match[1]) * 1e9, 6)
    return text, None
