"""A target grid as a recipe writes it."""

from typing import Literal

from pydantic import Field, model_validator

from ..lake.recipe import Name
from ..lake.registry import Strict


class GridSpec(Strict):
    """A regular latitude-longitude target grid and how to get there.

    Cell centres run from ``west + spacing/2`` eastwards and from ``north - spacing/2`` southwards, so
    that cells fill the box exactly.
    """

    name: Name
    spacing: float = Field(gt=0, le=90, description="Cell size in degrees.")
    bbox: tuple[float, float, float, float] = Field(
        default=(-180, -90, 180, 90), description="west, south, east, north in degrees."
    )
    method: Literal["conservative", "bilinear", "nearest"] = "conservative"
    variables: tuple[Name, ...] | None = Field(default=None, description="Variables to regrid; all when absent.")
    tile: int = Field(default=32, gt=0, description="Side of a point-shaped chunk in cells.")

    @model_validator(mode="after")
    def _whole_cells(self) -> "GridSpec":
        west, south, east, north = self.bbox
        if not (-360 <= west < east <= 360 and east - west <= 360 and -90 <= south < north <= 90):
            raise ValueError("bbox must be west, south, east, north in degrees with west < east and south < north")
        for extent in (east - west, north - south):
            if abs(extent / self.spacing - round(extent / self.spacing)) > 1e-9:
                raise ValueError(f"bbox is no whole number of cells of {self.spacing} degrees")
        return self
