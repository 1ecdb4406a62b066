"""A target grid as a recipe writes it."""

from typing import Literal

from pydantic import Field, model_validator

from ..lake.recipe import Name
from ..lake.registry import Strict

GLOBE = (-180.0, -90.0, 180.0, 90.0)


class GridSpec(Strict):
    """A target grid and how to get there.

    One of: ``spacing``, a regular latitude-longitude grid whose cells fill ``bbox`` exactly (centres run from
    ``west + spacing/2`` eastwards and from ``north - spacing/2`` southwards); ``grid``, a name; ``file``, a netCDF file
    whose coordinates are taken.
    """

    name: Name
    spacing: float | None = Field(default=None, gt=0, le=90, description="Cell size in degrees.")
    bbox: tuple[float, float, float, float] = Field(
        default=GLOBE, description="west, south, east, north in degrees; goes with `spacing`."
    )
    grid: str | None = Field(
        default=None, description="A named grid: F80, N48, O320, r360x181, or one of `tasks/grids/named.py`."
    )
    file: str | None = Field(default=None, description="Path of a netCDF file with the coordinates of the grid.")
    method: Literal["conservative", "bilinear", "nearest", "patch", "second-order"] = "conservative"
    backend: Literal["auto", "native", "xesmf"] = Field(default="auto", description="What makes the weights.")
    norm: Literal["fracarea", "dstarea"] = Field(
        default="fracarea",
        description="Conservative weights: a mean over the covered part of a cell, or over all of it.",
    )
    pole: Literal["mean", "nearest", "none"] = Field(
        default="mean", description="Bilinear weights beyond the last row: its mean, the row itself, nothing."
    )
    extrapolate: Literal["none", "nearest", "inverse-distance"] = Field(
        default="none", description="What target cells get that the source does not reach."
    )
    variables: tuple[Name, ...] | None = Field(default=None, description="Variables to regrid; all when absent.")
    tile: int = Field(default=32, gt=0, description="Side of a point-shaped chunk in cells.")

    @model_validator(mode="after")
    def _one_grid(self) -> "GridSpec":
        given = [name for name in ("spacing", "grid", "file") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a target grid has one of spacing, grid and file, not {' and '.join(given) or 'none'}")
        if self.spacing is None:
            # By value: a recipe is written out whole, defaults too, where it is handed to a worker.
            if self.bbox != GLOBE:
                raise ValueError(f"bbox goes with spacing, not with {given[0]}")
            return self
        west, south, east, north = self.bbox
        if not (-360 <= west < east <= 360 and east - west <= 360 and -90 <= south < north <= 90):
            raise ValueError("bbox must be west, south, east, north in degrees with west < east and south < north")
        for extent in (east - west, north - south):
            if abs(extent / self.spacing - round(extent / self.spacing)) > 1e-9:
                raise ValueError(f"bbox is no whole number of cells of {self.spacing} degrees")
        return self
