"""Which variables are components of one vector, and whether they lie along the axes of the source's grid."""

from collections.abc import Sequence
from functools import lru_cache

import eccodes

from ..lake.errors import UsageError
from .recipe import ForecastRecipe
from .template import Template

PAIRS = (
    ("u", "v"), ("10u", "10v"), ("100u", "100v"), ("200u", "200v"), ("ugust", "vgust"), ("max_10u", "max_10v"),
    ("ustm", "vstm"), ("vucsh", "vvcsh"), ("ewss", "nsss"), ("uflx", "vflx"), ("utaua", "vtaua"),
)  # fmt: skip
"""ecCodes short names of the components along x and y: winds, gusts, storm motion, shear, stress."""


@lru_cache(maxsize=8)
def relative_to_grid(message: bytes) -> bool:
    """Whether vectors of a GRIB message lie along the axes of its grid (WMO FM 92, flag table 3.3, bit 5)."""
    handle = eccodes.codes_new_from_message(message)
    try:
        return bool(eccodes.codes_is_defined(handle, "uvRelativeToGrid")) and bool(
            eccodes.codes_get(handle, "uvRelativeToGrid", int)
        )
    finally:
        eccodes.codes_release(handle)


def turned(template: Template, recipe: ForecastRecipe) -> tuple[tuple[str, str], ...]:
    """Pairs u, v of variables that must be turned towards east and north before anything else is done with them.

    Raises ``UsageError`` where one of the two is selected without the other.
    """
    if template.grid.kind == "rectilinear" or not relative_to_grid(template.message):
        return ()
    found = list(recipe.regrid.vectors)
    taken = {name for pair in found for name in pair}
    levels = {v.name: v.levels for v in recipe.select.variables}
    partner = dict(PAIRS) | {b: a for a, b in PAIRS}
    for name, learnt in template.variables.items():
        if name in taken or learnt.short_name not in partner:
            continue
        wanted = partner[learnt.short_name]
        others = [
            n
            for n, other in template.variables.items()
            if (other.short_name, other.type_of_level, levels[n]) == (wanted, learnt.type_of_level, levels[name])
        ]
        if not others:
            raise UsageError(
                f"{name} lies along the axes of its grid and cannot be turned alone; select {wanted} at the same level"
            )
        pair = (name, others[0]) if (learnt.short_name, wanted) in PAIRS else (others[0], name)
        found.append(pair)
        taken |= set(pair)
    return tuple(found)


def partners(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The names, and with each component the other one, in a stable order."""
    more = [n for pair in pairs if set(pair) & set(names) for n in pair]
    return tuple(dict.fromkeys((*names, *more)))
