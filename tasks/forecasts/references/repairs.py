"""What is wrong with a published reference file, held against the provider's index: the report of an import."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from .inventory import FieldKey, Inventory

if TYPE_CHECKING:
    from .published import Published

_NAMED = 3
_DATED = re.compile(r"/(\d{8})/(\d{2})z/")


@dataclass
class Report:
    """A sentence for everything that was repaired, and for everything that could not be."""

    references: int
    repaired: dict[str, str] = field(default_factory=dict)
    unrepaired: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """As JSON values."""
        return {"references": self.references, "repaired": self.repaired, "unrepaired": self.unrepaired}


class Repairs:
    """Compares a published file with the inventory it should have been made from."""

    def __init__(self, published: "Published", inventory: Inventory, run: datetime) -> None:
        self.published = published
        self.inventory = inventory
        self.run = f"{run:%Y%m%d%H}"
        self.seconds = int(run.timestamp())
        # Published keys have params in lower case.
        self.lower = {FieldKey(k.step, k.param.lower(), *k[2:]): k for k in inventory.fields}
        self.levels: dict[tuple[int, str, str], int] = {}
        for key in self.lower:
            if key.level is not None:
                self.levels[key[:3]] = self.levels.get(key[:3], 0) + 1

    def report(self) -> Report:
        """Everything that differs, each kind named once."""
        found = Report(len(self.inventory.fields))
        self._references(found)
        self._tree(found)
        for step, why in sorted(self.inventory.lacking.items()):
            lost = sum(key.step == step for key in self.published.fields)
            dropped = f"; {lost} references of the file could not be checked and were left out" if lost else ""
            found.unrepaired.append(f"step {step}: {why}{dropped}")
        if ambiguous := self.inventory.ambiguous:
            names = _some(sorted(str(k) for k in ambiguous))
            found.unrepaired.append(f"told apart by more than a reference names, the first is taken: {names}")
        return found

    def _references(self, found: Report) -> None:
        inventory, fields = self.inventory, self.published.fields
        checked = {key: place for key, place in fields.items() if key.step not in inventory.lacking}
        suffix = other_run = ranges = 0
        matched: set[FieldKey] = set()
        collapsed: dict[tuple[str, str], int] = {}
        unknown: list[str] = []
        for key, (url, offset, length) in checked.items():
            true = self.lower.get(key)
            if true is None:
                levels = self.levels.get(key[:3], 0)
                if key.level is None and levels:
                    collapsed[key.param, key.level_type] = max(levels, collapsed.get(key[1:3], 0))
                else:
                    unknown.append(str(key))
                continue
            matched.add(true)
            wanted = inventory.fields[true]
            suffix += url + ".grib2" == wanted[0] or not url.endswith((".grib2", ".grib", ".grb2"))
            other_run += _of_another_run(url, self.run)
            ranges += (offset, length) != wanted[1:]
        missing = set(inventory.fields) - matched
        hidden = {k for k in missing if (k.param.lower(), k.level_type) in collapsed}
        if suffix:
            found.repaired["url"] = f"{suffix} references had URLs without .grib2"
        if collapsed:
            what = _some([f"{p} at {t} (1 of {n})" for (p, t), n in sorted(collapsed.items())])
            found.repaired["levels"] = (
                f"levels were collapsed to one: {what}; {len(hidden)} fields are told apart again"
            )
        if other_run:
            found.repaired["run"] = f"{other_run} references were of another run than {self.run}"
        if ranges:
            found.repaired["ranges"] = f"{ranges} byte ranges were not those of the index"
        lost = missing - hidden
        if not checked and self.published.member == 0:
            found.repaired["control"] = f"the control was lost: none of its {len(inventory.fields)} fields was there"
        elif lost:
            names = _some(sorted(str(k) for k in lost))
            found.repaired["missing"] = f"{len(lost)} fields of the index were not there: {names}"
        if unknown:
            found.unrepaired.append(f"{len(unknown)} references are of fields that the index has not: {_some(unknown)}")

    def _tree(self, found: Report) -> None:
        """Template references and times that were left, and variables that are no longer there."""
        dates: dict[str, int] = {}
        for urls in self.published.chunks.values():
            for url in urls:
                if _of_another_run(url, self.run):
                    dates[_date(url)] = dates.get(_date(url), 0) + 1
        if dates:
            what = ", ".join(f"{n} of {date}" for date, n in sorted(dates.items()))
            found.repaired["template"] = f"references of the template's own date were left: {what}"
        stale = sorted(t for t in self.published.times if t != self.seconds)
        if stale:
            found.repaired["time"] = f"time coordinates were of another run ({len(stale)} values)"
        params = {param for param, _ in self.inventory.products}
        for path, attributes in sorted(self.published.arrays.items()):
            if attributes["GRIB_shortName"] not in params:
                found.unrepaired.append(f"{path}: the index has no {attributes['GRIB_shortName']}; left out")


def _of_another_run(url: str, run: str) -> bool:
    date = _date(url)
    return bool(date) and date != run


def _date(url: str) -> str:
    """The run that a URL is of, as ``YYYYMMDDHH``; empty when it does not say."""
    found = _DATED.search(url)
    return found[1] + found[2] if found else ""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
