"""What a run holds at the provider, step by step, and how it differs from what runs of its era held before."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

type FieldKey = tuple[str, str, float | None, str]
"""param, level_type, level, window: what tells the fields of a step and a member apart."""


@dataclass(frozen=True)
class StepContents:
    """Of one step: how many fields there are of each kind (one a member), which members, and the GRIB files' bytes."""

    fields: Mapping[FieldKey, int]
    members: tuple[int, ...]
    bytes: int

    def as_json(self) -> dict[str, object]:
        """As JSON values, in a fixed order."""
        rows = sorted(([*key, count] for key, count in self.fields.items()), key=repr)
        return {"fields": rows, "members": list(self.members), "bytes": self.bytes}


def step_contents(index: pa.Table, size: int) -> StepContents:
    """The contents of a step from its whole index (`manifest.SCHEMA`); ``size``: bytes of its GRIB files."""
    keys = ["param", "level_type", "level", "window"]
    plain = pa.table({k: index[k].cast(pa.string()) if k != "level" else index[k] for k in keys})
    counted = plain.group_by(keys).aggregate([([], "count_all")])
    rows = zip(*(counted[k].to_pylist() for k in (*keys, "count_all")), strict=True)
    members = sorted(m for m in index["member"].unique().to_pylist() if m is not None)
    return StepContents({tuple(r[:4]): r[4] for r in rows}, tuple(members), size)


def from_json(document: Mapping[str, Any]) -> StepContents:
    """A step's contents from the values that `StepContents.as_json` makes."""
    fields = {tuple(row[:4]): row[4] for row in document["fields"]}
    return StepContents(fields, tuple(document["members"]), document["bytes"])


def write(steps: Mapping[int, StepContents]) -> bytes:
    """The contents of a run as JSON; steps that hold the same fields share their list."""
    lists: list[object] = []
    known: dict[bytes, int] = {}
    rows = {}
    for step, contents in sorted(steps.items()):
        document = contents.as_json()
        fields = document["fields"]
        number = known.setdefault(orjson.dumps(fields), len(lists))
        if number == len(lists):
            lists.append(fields)
        rows[str(step)] = document | {"fields": number}
    return orjson.dumps({"fields": lists, "steps": rows})


def read(data: bytes) -> dict[int, StepContents]:
    """The contents of a run by step (h)."""
    document = orjson.loads(data)
    lists = [{tuple(row[:4]): row[4] for row in rows} for rows in document["fields"]]
    return {
        int(step): StepContents(lists[row["fields"]], tuple(row["members"]), row["bytes"])
        for step, row in document["steps"].items()
    }


def drift(before: Mapping[int, StepContents], now: Mapping[int, StepContents]) -> list[str]:
    """How a run's contents differ from what was learnt, a sentence each; compared are the steps that both have."""
    changes: dict[tuple[str, object], list[int]] = {}
    for step in sorted(set(before) & set(now)):
        old, new = before[step], now[step]
        for key in old.fields.keys() - new.fields.keys():
            changes.setdefault(("removed", key), []).append(step)
        for key in new.fields.keys() - old.fields.keys():
            changes.setdefault(("added", key), []).append(step)
        for member in set(old.members) - set(new.members):
            changes.setdefault(("member removed", member), []).append(step)
        for member in set(new.members) - set(old.members):
            changes.setdefault(("member added", member), []).append(step)
        if old.members == new.members:
            for key in old.fields.keys() & new.fields.keys():
                if old.fields[key] != new.fields[key]:
                    changes.setdefault(("counted", (key, old.fields[key], new.fields[key])), []).append(step)
    return [_sentence(what, of, steps) for (what, of), steps in sorted(changes.items(), key=repr)]


def _sentence(what: str, of: object, steps: list[int]) -> str:
    at = _steps(steps)
    if what.startswith("member"):
        return f"{what.replace('member', f'member {of}')} {at}"
    if what == "counted":
        key, old, new = of  # type: ignore[misc]
        return f"{_name(key)} is there {new} times instead of {old} {at}"
    return f"{_name(of)} {what} {at}"  # type: ignore[arg-type]


def _name(key: FieldKey) -> str:
    param, level_type, level, window = key
    return f"{param} at {level_type}{'' if level is None else f' {level:g}'} ({window})"


def _steps(steps: Iterable[int]) -> str:
    steps = list(steps)
    if len(steps) > 3:
        return f"at {len(steps)} steps from {steps[0]} to {steps[-1]} h"
    return f"at {', '.join(map(str, steps))} h"
