"""How a quantity is drawn: colour map, display unit, range. A table, looked up by CF names and units."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Style:
    """``pattern`` is searched in standard_name, long_name and name (lower case). ``scale`` says how colours spread:
    ``linear``, ``root`` (small amounts stay visible) or ``signed`` (symmetric about zero). ``floor`` and
    ``ceiling`` are fixed ends of the range in display units."""

    pattern: str
    colours: str
    scale: Literal["linear", "root", "signed"] = "linear"
    floor: float | None = None
    ceiling: float | None = None


STYLES = (
    Style(r"dew_?\s?point|temperature|^(\d*t\d*m?|t2m|d2m|skt|sst|mx2t\d*|mn2t\d*|tmp|tmax|tmin)$", "plasma"),
    Style(r"gust|wind_speed|wind speed|^(ws|si10|10fg\d*|fg10|i10fg)$", "viridis", floor=0),
    Style(
        r"eastward_wind|northward_wind|[uv].component of wind|[uv] wind|^([uv]|[uv]\d+m?|\d+[uv]|[uv]grd)$",
        "RdBu_r",
        "signed",
    ),
    Style(r"vorticity|divergence|vertical_velocity|omega|tendency_of|heat_flux", "RdBu_r", "signed"),
    Style(r"snow(?!melt)", "PuBu", "root", floor=0),
    Style(r"precipitation|rain|^(tp|cp|lsp|prate|apcp)$", "YlGnBu", "root", floor=0),
    Style(r"relative_humidity|relative humidity|^(r|rh)$", "YlGnBu", floor=0, ceiling=100),
    Style(r"cloud", "Greys_r", floor=0),
    Style(r"specific_humidity|humidity|water_vapou?r|precipitable|^(q|tcwv|pwat)$", "YlGnBu", floor=0),
    Style(r"pressure|^(msl|sp|prmsl|mslet)$", "cividis"),
    Style(r"geopotential|height|altitude|^(gh|z)$", "viridis"),
    Style(r"radiation|radiative|shortwave|longwave|^(ssrd|strd|dswrf|dlwrf)$", "inferno", floor=0),
    Style(r"wave|swell|^(swh|hs)$", "viridis", floor=0),
)
"""First match wins."""

_BY_UNITS = {"K": STYLES[0], "degC": STYLES[0], "Pa": STYLES[9], "hPa": STYLES[9]}
_OTHER = Style("", "viridis")


@dataclass(frozen=True, slots=True)
class Display:
    """Value on display = ``factor * value + offset``, written with ``units``."""

    units: str
    factor: float = 1.0
    offset: float = 0.0


UNITS: dict[tuple[str, str], Display] = {
    ("plasma", "K"): Display("°C", 1, -273.15),
    ("plasma", "degC"): Display("°C"),
    ("cividis", "Pa"): Display("hPa", 0.01),
    ("YlGnBu", "m"): Display("mm", 1000),
    ("YlGnBu", "kg m-2"): Display("mm"),
    ("YlGnBu", "kg m**-2"): Display("mm"),
    ("YlGnBu", "kg m-2 s-1"): Display("mm/h", 3600),
    ("YlGnBu", "kg m**-2 s**-1"): Display("mm/h", 3600),
    ("YlGnBu", "m s-1"): Display("mm/h", 3.6e6),
    ("YlGnBu", "kg kg-1"): Display("g/kg", 1000),
    ("YlGnBu", "kg kg**-1"): Display("g/kg", 1000),
    ("Greys_r", "1"): Display("%", 100),
    ("Greys_r", "(0 - 1)"): Display("%", 100),
}
"""By colour map (so by quantity) and unit of the data. Liquid water: 1 kg m-2 is 1 mm."""

_PLAIN = {
    "m s-1": "m/s",
    "m s**-1": "m/s",
    "m2 s-2": "m²/s²",
    "m**2 s**-2": "m²/s²",
    "W m-2": "W/m²",
    "W m**-2": "W/m²",
    "J m-2": "J/m²",
    "J m**-2": "J/m²",
    "kg m-2": "kg/m²",
    "kg m**-2": "kg/m²",
    "1": "",
    "~": "",
}
"""Units that stay as they are, in ordinary notation."""


def style_of(name: str, standard_name: str = "", long_name: str = "", units: str = "") -> Style:
    """The style of a variable; by its unit alone when no name says more.

    The standard name speaks first, then the variable's own name, then the long name, which may say
    ``2 metre temperature`` as well as ``height of the freezing level``.
    """
    for text in (standard_name, name, long_name):
        for style in STYLES:
            if text and re.search(style.pattern, text.lower()):
                return style
    return _BY_UNITS.get(units, _OTHER)


def display_of(style: Style, units: str) -> Display:
    """How values of a unit are written for a style."""
    return UNITS.get((style.colours, units)) or Display(_PLAIN.get(units, units))


def limits(values: np.ndarray, style: Style) -> tuple[float, float]:
    """Ends of the colour range in display units for ``values`` (any shape, NaN left out), lower < upper.

    An empty field gets 0 to 1; a constant one its value and the next whole step.
    """
    seen = values[np.isfinite(values)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    if style.scale == "signed":
        high = max(abs(low), abs(high))
        low = -high
    low = low if style.floor is None else min(style.floor, low)
    high = high if style.ceiling is None else max(style.ceiling, high)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        low, high = (low - 0.5, high + 0.5) if style.floor is None else (low, low + 1)
    return low, high
