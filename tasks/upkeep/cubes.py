"""The cubes of a recipe: versions older than the recipe keeps expire, and what nothing refers to is collected."""

from datetime import timedelta

import orjson

from ..forecasts.recipe import ForecastRecipe
from ..lake.cube_upkeep import collect, expire
from ..lake.cubes import Cube
from ..lake.errors import LakeError
from ..lake.ledger import utcnow
from ..lake.phase import Context
from .chore import Chore, counted
from .staged import horizon, pins, staged

GRACE = timedelta(hours=1)
"""Garbage younger than this is left: somebody may be about to refer to it."""


def cubes(context: Context[ForecastRecipe], *, dry_run: bool, grace: timedelta = GRACE) -> Chore:
    """Expire old versions and collect the garbage of every cube that the recipe has."""
    # In this order: what is under way now is younger than the horizon, what ends after it is pinned.
    older_than = horizon(context, grace)
    kept = pins(context)
    expires = utcnow() - timedelta(days=context.recipe.retention.history_days)
    rows, problems, total = [], [], 0
    for cube in _of(context):
        try:
            gone = expire(cube, expires, dry_run=dry_run)
            done = collect(cube, kept.get(cube.path, []), older_than, dry_run=dry_run)
        except LakeError as error:
            problems.append(str(error))
            continue
        total += done.bytes
        rows.append((cube.path, len(gone.tags), gone.snapshots, done.chunks, done.others, done.bytes))
        if done.failed:
            problems.append(f"{counted(done.failed, 'object')} of {cube.path} could not be deleted; run this again")
    versions = sum(row[1] for row in rows)
    would = "would be " if dry_run else ""
    return Chore(
        "cubes",
        f"{counted(versions, 'version')} {would}expired, {total} bytes of garbage {would}collected",
        ("cube", "versions", "snapshots", "chunks", "other objects", "bytes"),
        tuple(rows),
        tuple(problems),
        {"versions": versions, "bytes": total},
    )


def _of(context: Context[ForecastRecipe]) -> list[Cube]:
    """The cubes that pointers or forks name; those only that are there."""
    objects = context.lake.objects
    pointers = [m.key for m in objects.folder(f"cubes/{context.recipe.name}") if m.key.endswith(".json")]
    paths = {str(orjson.loads(data)["path"]) for data, _ in objects.get_many(pointers)}
    paths |= {one.cube for one in staged(context)}
    found = [context.lake.cube(path) for path in sorted(paths)]
    return [cube for cube in found if cube.identity is not None]
