"""The references of one run, in the forms that the recipe asks for."""

from collections.abc import Iterable, Sequence

import pyarrow as pa

from ...lake.errors import CorruptInput
from ...lake.partition import Output
from ...lake.phase import Context
from ..archive import Archive
from ..recipe import ForecastRecipe
from ..template import load
from . import Form, kerchunk_parquet
from .layout import collect
from .places import places


def virtual_path(recipe: str) -> str:
    """Where the Icechunk repository of a recipe's references lies in the lake."""
    return f"references/{recipe}/virtual.icechunk"


def write_run(
    context: Context[ForecastRecipe], scope: str, manifests: Iterable[pa.Table], forms: Sequence[Form]
) -> tuple[Output, ...]:
    """See `references.write`."""
    recipe = context.recipe
    run, samples = collect(recipe, scope, manifests)
    if samples is None:
        raise CorruptInput(f"run {scope} of {recipe.name} has no fields to refer to")
    template = load(context, samples)
    found = places(Archive(context), run.objects)
    if "kerchunk" in forms:
        kerchunk_parquet.refuse_what_kerchunk_cannot_read(run, template)
    outputs: list[Output] = []
    if "kerchunk" in forms:
        outputs += kerchunk_parquet.write_members(context, template, run, found)
    if "icechunk" in forms:
        from .icechunk_virtual import VirtualCube, write_virtual

        cube = VirtualCube(context.lake.objects, virtual_path(recipe.name))
        outputs.append(write_virtual(cube, recipe, template, run, found))
    return tuple(outputs)
