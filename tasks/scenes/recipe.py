"""The recipe of scenes: where items are found, which groups, how they are stored, checked and handed out."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from ..grids.overviews import Method
from ..lake.recipe import Recipe
from ..lake.registry import Strict

Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Search(Strict):
    """Items of a STAC API over a window of time (``--start``/``--end``) and an area."""

    url: Url = Field(description="Root of the STAC API.")
    collection: str
    bbox: tuple[float, float, float, float] | None = Field(default=None, description="West, south, east, north.")
    limit: int = Field(default=100, gt=0, description="Most items that one run takes.")
    token: str | None = Field(default=None, description="Secret reference of a bearer token.")


class Source(Strict):
    """Items by name, or by a search when none is named."""

    items: tuple[Url, ...] = Field(default=(), description="STAC items or Zarr stores, by URL or file.")
    search: Search | None = None
    asset: str = Field(default="product", description="Asset of a STAC item that is the whole Zarr store.")
    options: str = Field(default="", description="Query added to s3:// URLs: endpoint=...&region=...&anonymous=true")
    prestage: bool = Field(default=False, description="Copy the source's objects into the lake before they are read.")
    tries: int = Field(default=3, ge=1, le=10, description="Tries of each request for an object of the source.")

    @field_validator("items")
    @classmethod
    def _unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))


class Variable(Strict):
    """What is known of variables beside their own attributes; the first row that matches counts."""

    match: str = Field(description="Glob over group and name: quality/probability/*/cld; ** for any depth.")
    method: Method | None = Field(default=None, description="Overviews; by the attributes when absent.")
    nodata: float | None = Field(default=None, description="Stored value that means no data, where the source is mum.")
    scale: float | None = Field(default=None, description="scale_factor, where the source does not say.")
    offset: float | None = Field(default=None, description="add_offset, where the source does not say.")


class Select(Strict):
    """What of an item is taken."""

    groups: tuple[str, ...] = Field(min_length=1, description="Group paths; a leading slash makes no difference.")
    variables: tuple[Variable, ...] = ()

    @field_validator("groups")
    @classmethod
    def _normalised(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        paths = ["/".join(part for part in path.split("/") if part) for path in value]
        if not all(paths):
            raise ValueError("a group path names at least one group")
        return tuple(dict.fromkeys(paths))


class Layout(Strict):
    """How arrays lie in the store."""

    values: Literal["packed", "decoded"] = Field(
        default="packed",
        description="packed: integers with scale, offset and nodata as in the source; decoded: float32 with NaN.",
    )
    spatial_chunk: int = Field(default=1024, ge=16, description="Side of a chunk: what a map client reads at once.")
    shard: int = Field(default=6144, ge=16, description="Largest side of a shard: one object of the store.")
    compression_level: int = Field(default=3, ge=0, le=9, description="Blosc zstd level; bytes are shuffled.")


class Overviews(Strict):
    """Coarser levels of every band."""

    scheme: Literal["halves", "ladder", "none"] = Field(
        default="halves",
        description="halves: by 2 from each group; ladder: 10, 20, 60, 120, 360, 720 m over sibling groups.",
    )
    min_dimension: int = Field(default=256, ge=1, description="No level's smaller side falls below it.")


class Checks(Strict):
    """When a scene may be handed out: the scale of runs."""

    accept_above: float = Field(default=0.95, ge=0, le=1)
    flag_above: float = Field(default=0.8, ge=0, le=1)
    nodata_above: float = Field(
        default=0.99, ge=0, le=1, description="Share of pixels without data that is no scene any more."
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Checks":
        if self.flag_above > self.accept_above:
            raise ValueError("flag_above lies above accept_above")
        return self


class Catalogue(Strict):
    """A STAC API that is told of the results (transaction extension)."""

    url: Url
    collection: str
    token: str | None = Field(default=None, description="Secret reference of a bearer token.")


class Outputs(Strict):
    """What is made of a finished scene beside the GeoZarr store itself."""

    url: str | None = Field(default=None, description="Folder or s3:// prefix that gets a copy: <url>/<item>.zarr")
    tar: bool = Field(default=True, description="One tar with the store and a list of SHA-256 digests.")
    cog: bool = Field(default=False, description="A cloud-optimised GeoTIFF of every band.")
    quicklook: tuple[str, ...] = Field(
        default=(), description="Variables for red, green and blue (or one), as group/name; a PNG is made of them."
    )
    stretch: tuple[float, float] = Field(default=(0.0, 0.3), description="Decoded values that are black and white.")
    report: str | None = Field(default=None, description="Where to put Dask's performance report (HTML).")
    validators: tuple[Literal["conventions", "geozarr", "eopf-geozarr"], ...] = Field(
        default=("conventions",), description="What must accept the store before it is handed out."
    )
    catalogue: Catalogue | None = None

    @field_validator("quicklook")
    @classmethod
    def _one_or_three(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) not in (0, 1, 3):
            raise ValueError("a quick-look takes one variable or three")
        return tuple(v.strip("/") for v in value)


class SceneRecipe(Recipe):
    """Zarr scenes and what to make of them."""

    kind: Literal["scene"] = "scene"
    source: Source = Source()
    select: Select
    layout: Layout = Layout()
    overviews: Overviews = Overviews()
    checks: Checks = Checks()
    outputs: Outputs = Outputs()

    @model_validator(mode="after")
    def _ladder(self) -> "SceneRecipe":
        if self.overviews.scheme == "ladder":
            for path in self.select.groups:
                name = path.rpartition("/")[2]
                if not (name.startswith("r") and name.endswith("m") and name[1:-1].isdigit()):
                    raise ValueError(f"the ladder needs groups named after their resolution, such as r10m, not {path}")
        return self
