"""Units: from those of a variable to those a recipe asks for, as a factor and an offset."""

import re
from functools import cache
from typing import Any

from ..lake.errors import UsageError
from .limits import spelled

_WATER = "1000 kg m**-3"
"""Density that turns a mass of water on an area into its depth: 1 kg m-2 is 1 mm."""


@cache
def conversion(units: str, to: str) -> tuple[float, float]:
    """Factor and offset from one unit to another: ``value * factor + offset``.

    Written as GRIB and CF do: ``m s**-1``, ``m s-1``, ``degC``, ``%``. A mass of water on an area (``kg m-2``, also by
    time) and its depth (``mm``) are the same thing at 1000 kg m-3. Raises `UsageError` for a unit that is not known,
    and for two that do not measure the same.
    """
    if spelled(units) == spelled(to):
        return 1.0, 0.0
    registry = _registry()
    source, target = _unit(units), _unit(to)
    one, zero = (registry.Quantity(x, source) for x in (1.0, 0.0))
    if not source.is_compatible_with(target):
        water = registry.Quantity(_WATER)
        if (one / water).is_compatible_with(target):
            one, zero = one / water, zero / water
        elif (one * water).is_compatible_with(target):
            one, zero = one * water, zero * water
        else:
            raise UsageError(f"{units!r} cannot be converted to {to!r}", expected=f"units like {units}", found=to)
    offset = float(zero.to(target).magnitude)
    return float(one.to(target).magnitude) - offset, offset


def _unit(text: str) -> Any:
    import pint

    # CF writes exponents without a sign of their own: m s-1. Pint wants m s**-1.
    plain = re.sub(r"(?<=[A-Za-z])(-?\d+)", r"**\1", spelled(text))
    try:
        return _registry().parse_units("dimensionless" if plain == "1" else plain)
    except (pint.PintError, ValueError, AttributeError, TypeError):
        raise UsageError(f"{text!r} is no unit that is known here") from None


@cache
def _registry() -> Any:
    # Here, because it takes a third of a second to load, and most recipes convert nothing.
    import pint

    registry: Any = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    registry.define("geopotential_metre = metre = gpm")
    return registry
