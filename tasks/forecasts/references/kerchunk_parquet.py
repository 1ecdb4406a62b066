"""kerchunk references as Parquet: one file per member, in the layout published for the ECMWF ensemble.

``references/<recipe>/<run>/{date}{run}z-{control|ens_NN}.parquet``; of a single run ``{date}{run}z.parquet``.
"""

import io
from collections.abc import Iterator, Sequence

import eccodes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...lake.errors import UsageError
from ...lake.partition import Output
from ...lake.phase import Context
from ..recipe import ForecastRecipe
from ..runs import run_id
from ..template import Template
from .layout import ABSENT, RunReferences
from .places import Place
from .tree import Leaf, Tree, run_attributes

_ODD_SCANS = 0x10 | 0x20
"""Scanning mode (code table 3.4): rows that run to and fro, or points stored column by column."""


def write_members(
    context: Context[ForecastRecipe], template: Template, run: RunReferences, places: Sequence[Place]
) -> list[Output]:
    """Write a file for every member that has a field, each in one step; what was written."""
    outputs = []
    for name, table in tables(context.recipe, template, run, [p.url for p in places]):
        key = f"references/{context.recipe.name}/{run_id(run.run)}/{name}"
        data = to_parquet(table)
        outputs.append(context.lake.write(key, data))
    return outputs


def tables(
    recipe: ForecastRecipe, template: Template, run: RunReferences, urls: Sequence[str]
) -> Iterator[tuple[str, pa.Table]]:
    """File name and content for every member that has a field, one by one."""
    tree = tree_of(recipe, template, run)
    for row, member in enumerate(run.members if run.members is not None else (None,)):
        if np.any(run.source[row] != ABSENT):
            table = tree.table(member, urls, run.source[row], run.offset[row], run.length[row])
            yield file_name(run, member), table


def file_name(run: RunReferences, member: int | None) -> str:
    """``2026112000z-control.parquet``, ``2026112000z-ens_01.parquet``; ``2026112000z.parquet`` of a single run."""
    which = "" if member is None else "-control" if member == 0 else f"-ens_{member:02d}"
    return f"{run.run:%Y%m%d%H}z{which}.parquet"


def to_parquet(table: pa.Table) -> bytes:
    """A table of keys and values as Parquet, byte for byte the same for the same table."""
    sink = io.BytesIO()
    # A dictionary for the values: a field has two keys, groups share their coordinates.
    pq.write_table(
        table, sink, compression="zstd", compression_level=1, use_dictionary=["value"],
        dictionary_pagesize_limit=1 << 30, write_statistics=False, store_schema=False,
    )  # fmt: skip
    return sink.getvalue()


def tree_of(recipe: ForecastRecipe, template: Template, run: RunReferences) -> Tree:
    """The part of the files that all members share."""
    grid = template.grid
    leaves = []
    for block in run.blocks:
        learnt = template.variables[block.variable.name]
        attributes = {
            "units": learnt.units,
            "long_name": block.variable.long_name or learnt.long_name,
            "standard_name": block.variable.standard_name,
            "grid_mapping": "spatial_ref",
            "GRIB_shortName": learnt.short_name,
            "GRIB_cfName": learnt.cf_name,
            "GRIB_name": learnt.long_name,
            "GRIB_units": learnt.units,
            "GRIB_stepType": learnt.step_type,
            "GRIB_typeOfLevel": learnt.type_of_level,
        }
        leaves.append(
            Leaf(
                name=block.variable.name, step_type=learnt.step_type, level_type=learnt.type_of_level,
                levels=block.levels, words=(block.param, block.level_type), dims=grid.dims, shape=grid.shape,
                attributes={k: v for k, v in attributes.items() if v},
            )
        )  # fmt: skip
    coordinates = {n: (dims, np.asarray(v), attrs) for n, (dims, v, attrs) in grid.coordinates().items()}
    words = {"title": recipe.title or recipe.name, "source": recipe.description, "attribution": recipe.attribution}
    about = run_attributes(run.run, {k: v for k, v in words.items() if v})
    return Tree(run.run, run.lead_times, leaves, coordinates, about)


def refuse_what_kerchunk_cannot_read(run: RunReferences, template: Template) -> None:
    """Raise ``UsageError`` for fields that kerchunk's ``grib`` codec would read as something else.

    It decodes the first field of a message, in the order the message stores its points.
    """
    for block in run.blocks:
        if sub := run.sub_of(block):
            raise UsageError(
                f"kerchunk cannot refer to {block.variable.name}, which is field {sub + 1} of its messages; "
                "take 'references: [icechunk]'"
            )
    handle = eccodes.codes_new_from_message(template.message)
    try:
        scan = eccodes.codes_get(handle, "scanningMode", int) if eccodes.codes_is_defined(handle, "scanningMode") else 0
    finally:
        eccodes.codes_release(handle)
    if scan & _ODD_SCANS:
        raise UsageError(
            "kerchunk cannot refer to fields whose rows run to and fro or that are stored column by column "
            f"(scanning mode {scan}); take 'references: [icechunk]'"
        )
