"""What a recipe may have made beside the regridded variables: rates, derived variables, statistics of the ensemble."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..grids.spec import GridSpec
from ..lake.recipe import Name
from ..lake.registry import Strict


class Product(Strict):
    """A variable that is made of others in the pass that regrids them."""

    name: Name = Field(description="Name in the regridded cubes.")
    units: str | None = Field(default=None, description="Units to convert to; the product's own when absent.")

    @property
    def of_variables(self) -> tuple[str, ...]:
        """Names of the variables it is made of."""
        raise NotImplementedError


class Convert(Product):
    """A variable in other units."""

    type: Literal["convert"]
    of: Name
    units: str = Field(description="Units to convert to.")  # type: ignore[assignment]

    @property
    def of_variables(self) -> tuple[str, ...]:
        return (self.of,)


class Rate(Product):
    """The mean rate of an accumulation: since the lead time before, or over a window of some hours."""

    type: Literal["rate"]
    of: Name
    window: int | None = Field(default=None, gt=0, description="Hours; since the lead time before when absent.")

    @property
    def of_variables(self) -> tuple[str, ...]:
        return (self.of,)


class Amount(Product):
    """What an accumulation gained: since the lead time before, or over a window of some hours."""

    type: Literal["amount"]
    of: Name
    window: int | None = Field(default=None, gt=0, description="Hours; since the lead time before when absent.")

    @property
    def of_variables(self) -> tuple[str, ...]:
        return (self.of,)


class WindSpeed(Product):
    """Speed from two components."""

    type: Literal["wind_speed"]
    u: Name
    v: Name

    @property
    def of_variables(self) -> tuple[str, ...]:
        return (self.u, self.v)


class WindDirection(Product):
    """Direction the wind comes from, from two components."""

    type: Literal["wind_direction"]
    u: Name
    v: Name

    @property
    def of_variables(self) -> tuple[str, ...]:
        return (self.u, self.v)


class RelativeHumidity(Product):
    """Relative humidity from temperature and dew point."""

    type: Literal["relative_humidity"]
    temperature: Name
    dew_point: Name

    @property
    def of_variables(self) -> tuple[str, ...]:
        return (self.temperature, self.dew_point)


class DewPoint(Product):
    """Dew point from temperature and relative humidity."""

    type: Literal["dew_point"]
    temperature: Name
    relative_humidity: Name

    @property
    def of_variables(self) -> tuple[str, ...]:
        return (self.temperature, self.relative_humidity)


type AnyProduct = Annotated[
    Convert | Rate | Amount | WindSpeed | WindDirection | RelativeHumidity | DewPoint, Field(discriminator="type")
]


class Statistic(Strict):
    """One number of the ensemble: ``mean``, ``std``, or ``quantile``, ``above``, ``below`` of a value."""

    kind: Literal["mean", "std", "quantile", "above", "below"]
    value: float = 0.0

    @property
    def suffix(self) -> str:
        """What its name adds to that of the variable: ``mean``, ``q90``, ``above_273p15``."""
        if self.kind in ("mean", "std"):
            return self.kind
        if self.kind == "quantile":
            return f"q{_slug(100 * self.value)}"
        return f"{self.kind}_{_slug(self.value)}"


class Statistics(Strict):
    """Statistics over the members, of variables or products, published together with them."""

    of: tuple[Name, ...] = Field(min_length=1, description="Variables or products.")
    mean: bool = False
    standard_deviation: bool = Field(default=False, description="Of the members as they are: divided by their number.")
    quantiles: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(default=(), description="Shares, 0 to 1.")
    above: tuple[float, ...] = Field(default=(), description="Thresholds (units of the variable) to exceed.")
    below: tuple[float, ...] = Field(default=(), description="Thresholds (units of the variable) to stay below.")

    @model_validator(mode="after")
    def _something(self) -> "Statistics":
        if not self.wanted:
            raise ValueError("a row of statistics names none: mean, standard_deviation, quantiles, above or below")
        return self

    @property
    def wanted(self) -> tuple[Statistic, ...]:
        """One by one, in a fixed order."""
        found = [Statistic(kind="mean")] if self.mean else []
        found += [Statistic(kind="std")] if self.standard_deviation else []
        found += [Statistic(kind="quantile", value=q) for q in sorted(set(self.quantiles))]
        found += [Statistic(kind="above", value=t) for t in sorted(set(self.above))]
        found += [Statistic(kind="below", value=t) for t in sorted(set(self.below))]
        return tuple(found)


class TargetGrid(GridSpec):
    """A target grid of a forecast: the grid, and how its cube is laid out."""

    shard_mb: int = Field(
        default=256, gt=0, le=4096, description="Largest size of a block of tiles (a shard) in MB, uncompressed."
    )
    na_thres: float = Field(
        default=0.5, ge=0, le=1, description="Share of a target cell that may lie on missing values (xESMF's na_thres)."
    )
    keep_bits: int | None = Field(default=None, ge=1, le=23, description="Mantissa bits kept; all when absent.")


class RegridConfig(Strict):
    """How regridding is done and what it must keep to."""

    memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="Memory (GB) that one partition may take; what the worker has for each of its threads when absent.",
    )
    conservation: float = Field(
        default=1e-6,
        gt=0,
        description="Change of a global mean that a conservative method may show, as a share of the largest value.",
    )
    vectors: tuple[tuple[Name, Name], ...] = Field(
        default=(), description="Pairs u, v beside those known by their short names, to turn when relative to the grid."
    )


def refuse_products(
    variables: Iterable[str], products: Iterable[Product], statistics: Iterable[Statistics], members: bool,
    grids: Iterable[TargetGrid], vectors: Iterable[tuple[str, str]],
) -> None:  # fmt: skip
    """Raise ``ValueError``, one sentence, where names of a recipe do not fit together."""
    known = list(variables)
    there = ", ".join(known)
    for product in products:
        for name in product.of_variables:
            if name not in known:
                raise ValueError(
                    f"product {product.name!r} is made of {name!r}, which is not selected; there are: {there}"
                )
    for pair in vectors:
        for name in pair:
            if name not in known:
                raise ValueError(f"regrid.vectors names {name!r}, which is not selected; there are: {there}")
    made = [*known, *(p.name for p in products)]
    rows = list(statistics)
    if rows and not members:
        raise ValueError("statistics are over the members, and select.members names none")
    for row in rows:
        for name in row.of:
            if name not in made:
                raise ValueError(f"statistics are asked of {name!r}; there are: {', '.join(made)}")
    names = made + [f"{name}_{s.suffix}" for row in rows for name in row.of for s in row.wanted]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"two variables of the regridded cubes would be called {', '.join(twice)}")
    for grid in grids:
        if lacking := sorted(set(grid.variables or ()) - set(made)):
            raise ValueError(f"grid {grid.name!r} names {', '.join(lacking)}; there are: {', '.join(made)}")


def _slug(value: float) -> str:
    return f"{value:.6g}".replace(".", "p").replace("-", "m").replace("+", "")
