"""What the second phase finds out of a collection, and the third adds: as they are kept in the lake."""

import msgspec

from .collection import Sample
from .question import Structure
from .reasons import Reason


class Probe(msgspec.Struct, frozen=True, omit_defaults=True):
    """A look at a collection's sample: what it holds, or why it cannot be used."""

    sample: Sample
    link: str | None = None
    extension: str = ""
    family: str | None = None
    structure: Structure | None = None
    reason: Reason | None = None
    message: str | None = None
    versions: dict[str, str] = {}


class Row(msgspec.Struct, frozen=True):
    """A verdict: one line of the report. Fields to `groups` are those of NASA's compatibility report."""

    collection_concept_id: str
    collection_short_name_and_version: str
    concept_id: str | None
    data_center: str
    data_url: str | None
    backend: str | None
    format: str | None
    extension: str | None
    tiling_compatible: bool | None
    incompatible_reason: str | None
    error_message: str | None
    tiles_url: str | None
    variable: str | None
    data_variables: tuple[str, ...]
    num_granules: int | None
    processing_level: str
    groups: tuple[str, ...]
    crs: str | None = None
    dimensions: dict[str, int] = {}
    seed: int = 0
    granule_index: int | None = None
    tile: str | None = None
    tile_valid: float | None = None
    versions: dict[str, str] = {}
    state: str = "done"
    attempt: int | None = None
    duration: float | None = None
