"""What is left of a recipe when only some of its variables are asked for (``select.only``)."""

from collections.abc import Mapping, Sequence
from typing import Any


def narrowed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's document without what is made of variables that are not taken.

    Products made of them, statistics of them and of those products, wind pairs, and grids and exports that want nothing
    else go with them; lists of variables are shortened. ``select`` itself is left to `selection.Select`.
    """
    select = document.get("select")
    only = select.get("only") if isinstance(select, Mapping) else None
    if only is None or not isinstance(select, Mapping):
        return dict(document)
    taken = {only} if isinstance(only, str) else set(only)
    gone = {v["name"] for v in select.get("variables") or () if isinstance(v, Mapping) and "name" in v} - taken
    products = []
    for product in _rows(document, "products"):
        if gone.isdisjoint(v for k, v in product.items() if k != "name" and isinstance(v, str)):
            products.append(product)
        else:
            gone.add(str(product.get("name")))
    statistics = [
        {**row, "of": left} for row in _rows(document, "statistics") if (left := _left(row.get("of") or (), gone))
    ]
    changed: dict[str, Any] = {"products": products, "statistics": statistics}
    regrid = document.get("regrid")
    if isinstance(regrid, Mapping) and regrid.get("vectors"):
        changed["regrid"] = {**regrid, "vectors": [p for p in regrid["vectors"] if gone.isdisjoint(p)]}
    changed["grids"] = [g for grid in _rows(document, "grids") if (g := _shortened(grid, gone)) is not None]
    zones = {"refined", *(g.get("name") for g in changed["grids"])}
    changed["exports"] = [
        e
        for export in _rows(document, "exports")
        if export.get("zone", "refined") in zones and (e := _shortened(export, gone)) is not None
    ]
    return {**document, **{k: v for k, v in changed.items() if k in document}}


def _rows(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return [dict(row) for row in document.get(key) or () if isinstance(row, Mapping)]


def _shortened(entry: dict[str, Any], gone: set[str]) -> dict[str, Any] | None:
    """A grid or export without these variables; None when it is of nothing else."""
    if _is_gone(entry.get("variable"), gone):
        return None
    if isinstance(entry.get("units"), Mapping):
        entry = {**entry, "units": {n: u for n, u in entry["units"].items() if not _is_gone(n, gone)}}
    wanted = entry.get("variables")
    if not wanted or isinstance(wanted, str):
        return entry
    left = _left(wanted, gone)
    return {**entry, "variables": left} if left else None


def _left(names: Sequence[str], gone: set[str]) -> list[str]:
    return [n for n in names if not _is_gone(n, gone)]


def _is_gone(name: Any, gone: set[str]) -> bool:
    # Statistics are called after what they are of: t2m_mean.
    return name in gone or any(isinstance(name, str) and name.startswith(f"{g}_") for g in gone)
