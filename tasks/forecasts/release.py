"""Release: a named person overrules a verdict.

A waiver is a record in the run's quarantine that settling takes as an input: there is no second way into the cube.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ..checks.verdict import EVERYTHING, Verdict, Waiver
from ..lake.errors import ConflictError, NotFound, UsageError
from ..lake.ledger import utcnow
from ..lake.objects import Objects
from ..lake.partition import digest_bytes
from ..lake.phase import Context
from .quarantine import folder
from .recipe import ForecastRecipe

_INDENT = orjson.OPT_INDENT_2


def verdict_key(recipe: str, scope: str) -> str:
    """Where the verdict of a run lies in the lake."""
    return f"verdicts/{recipe}/{scope}/verdict.json"


def verdict(context: Context[ForecastRecipe], scope: str) -> Verdict:
    """The verdict on a run. Raises ``UsageError`` when there is none."""
    name = context.recipe.name
    try:
        return Verdict.from_json(context.lake.objects.get(verdict_key(name, scope)))
    except NotFound:
        raise UsageError(
            f"there is no verdict on run {scope} of {name}; run first: python -m flows.validate {name} --run {scope}"
        ) from None


def waivers(context: Context[ForecastRecipe], scope: str) -> tuple[list[Waiver], str | None]:
    """Who released what of a run, oldest first, and the digest of that; nothing and None when nobody did."""
    try:
        data = context.lake.objects.get(_waivers_key(context, scope))
    except NotFound:
        return [], None
    return [Waiver.model_validate(w) for w in orjson.loads(data)], digest_bytes(data)


def release(context: Context[ForecastRecipe], scope: str, cells: Sequence[str], by: str, why: str) -> list[Waiver]:
    """Have cells (``tp/024-m01``), variables or everything (``all``) of a run used all the same.

    Raises ``UsageError``, and changes nothing, when there is no verdict on the run or it took nothing of that out.
    """
    if not by.strip() or not why.strip():
        raise UsageError("a release names who decides and why (--by NAME --why TEXT)")
    found = verdict(context, scope)
    for cell in cells:
        if not _concerns(found, cell):
            there = sorted({s.key for s in found.quarantined} | _rejected(found))
            known = ", ".join([EVERYTHING, *there[:10]]) if there or found.outcome != "publish" else "nothing"
            raise UsageError(f"run {scope} has nothing to release as {cell!r}", expected=known, found=cell)
    made = [Waiver(cell=cell, by=by.strip(), why=why.strip(), at=utcnow()) for cell in cells]
    for waiver in made:
        _append(context.lake.objects, _waivers_key(context, scope), waiver.model_dump(mode="json"))
    return made


def _rejected(found: Verdict) -> set[str]:
    """Variables that a verdict rejects the run for."""
    return {r.variable for r in found.table if r.action == "reject"}


def _concerns(found: Verdict, cell: str) -> bool:
    """Whether a verdict took out, or rejects, what is to be released."""
    if cell == EVERYTHING:
        return bool(found.quarantined) or found.outcome != "publish"
    variables = {s.variable for s in found.quarantined} | _rejected(found)
    return cell in variables or any(s.key == cell for s in found.quarantined)


def _waivers_key(context: Context[ForecastRecipe], scope: str) -> str:
    return f"{folder(context.recipe.name, scope)}/waivers.json"


def _append(objects: Objects, key: str, entry: Mapping[str, Any]) -> None:
    for _ in range(20):
        try:
            data, etag = objects.get_with_etag(key)
        except NotFound:
            data, etag = b"[]", None
        changed = orjson.dumps([*orjson.loads(data), entry], option=_INDENT)
        try:
            objects.put_new(key, changed) if etag is None else objects.replace(key, changed, etag)
        except ConflictError:
            continue
        return
    raise ConflictError(f"{key} kept changing")
