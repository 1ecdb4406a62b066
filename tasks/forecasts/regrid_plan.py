"""What is made together in one partition: variables, the fields to regrid, what follows from them, and its memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from ..lake.errors import UsageError
from .products import DewPoint, Product, RelativeHumidity, Statistic, TargetGrid, WindSpeed
from .recipe import ForecastRecipe
from .winds import partners

BEFORE = (WindSpeed, RelativeHumidity, DewPoint)
"""Products made on the source's grid and then regridded: what is not linear must not be made of averages."""

_PIECE_BYTES = 24 * 2**20
"""Source values held at once by a partition, of all its variables."""


@dataclass(frozen=True)
class Item:
    """A variable or product of a target cube, and the statistics over its members.

    ``roots`` are the regridded fields it is made of, ``variables`` those of the source behind them.
    """

    name: str
    variables: tuple[str, ...]
    roots: tuple[str, ...]
    product: Product | None = None
    statistics: tuple[Statistic, ...] = ()

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays it fills."""
        return (self.name, *(f"{self.name}_{s.suffix}" for s in self.statistics))


@dataclass(frozen=True)
class Group:
    """Variables that are read together, because something is made of them together; most hold one.

    ``turned`` are the pairs of them to turn towards east and north.
    """

    variables: tuple[str, ...]
    items: tuple[Item, ...]
    turned: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What keys call it."""
        return "+".join(self.variables)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays it fills."""
        return tuple(name for item in self.items for name in item.arrays)


def items(recipe: ForecastRecipe, spec: TargetGrid) -> list[Item]:
    """What a target cube holds: the variables and products that the grid names (all when it names none)."""
    chosen = None if spec.variables is None else set(spec.variables)
    names = [v.name for v in recipe.select.variables]
    found = [Item(name, (name,), (name,), None, _statistics(recipe, name)) for name in names]
    for product in recipe.products:
        roots = (product.name,) if isinstance(product, BEFORE) else product.of_variables
        found.append(Item(product.name, product.of_variables, roots, product, _statistics(recipe, product.name)))
    return [item for item in found if chosen is None or item.name in chosen]


def groups(recipe: ForecastRecipe, spec: TargetGrid, turned: Sequence[tuple[str, str]]) -> list[Group]:
    """The items of a target grid in groups that share no variable, in the recipe's order."""
    sets: list[set[str]] = []
    made = items(recipe, spec)
    for item in made:
        joined = set(partners(item.variables, turned))
        apart = []
        for other in sets:
            if other & joined:
                joined |= other
            else:
                apart.append(other)
        sets = [*apart, joined]
    order = [v.name for v in recipe.select.variables]
    found = []
    for names in sorted(sets, key=lambda s: min(order.index(n) for n in s)):
        variables = tuple(n for n in order if n in names)
        mine = tuple(i for i in made if set(i.variables) <= names)
        found.append(Group(variables, mine, tuple(p for p in turned if set(p) <= names)))
    return found


def roots_of(items: Iterable[Item]) -> tuple[str, ...]:
    """Names of the fields that these items need regridded, each once."""
    return tuple(dict.fromkeys(r for item in items for r in item.roots))


@dataclass(frozen=True)
class Size:
    """What a partition's memory follows from: fields, source cells, cells of a block, members, weights (bytes).

    ``row`` is how many lead times a chunk of the source holds.
    """

    leads: int
    row: int
    fields: int
    source: int
    block: int
    members: int
    weights: int

    @property
    def array(self) -> int:
        """Bytes of one array of a block."""
        return 4 * self.fields * self.block

    def at_once(self, variables: int) -> int:
        """Lead times that are read at once: whole chunks, so that none is read twice."""
        fitting = _PIECE_BYTES // (4 * self.source * variables)
        return min(self.leads, max(self.row, fitting // self.row * self.row))

    def memory(self, group: Group, items: Sequence[Item]) -> int:
        """Projected peak (bytes) of making these items in one pass.

        The regridded fields of the whole block, one array made of them and the one before it (Zarr's threads may let go
        of what they wrote only after the next is begun) and, four times over in float64, one of its lead times; as much
        again as an array for its encoded form, the statistics of one item, two pieces of the source (one is read while
        the other is worked on), one wide field in float64, and the weights: all of them, and those of the block once
        more.
        """
        piece = 4 * self.source * len(group.variables) * self.at_once(len(group.variables))
        made = any(i.product is not None or len(i.roots) > 1 for i in items)
        statistics = max((len(i.statistics) for i in items), default=0)
        arrays = len(roots_of(items)) + 2 * made + 1
        wide = 8 * self.array // self.leads if made or statistics else 0
        return (
            arrays * self.array
            + wide
            + statistics * self.array // self.members
            + 2 * piece
            + 16 * self.source
            + 2 * self.weights
        )


def passes(group: Group, size: Size, limit: int, where: str) -> list[tuple[Item, ...]]:
    """The items of a group in as few passes over the source as ``limit`` (bytes) allows: one, or one per set of fields.

    Raises ``UsageError`` where a single pass needs more.
    """
    if size.memory(group, group.items) <= limit:
        return [group.items]
    by_roots: dict[tuple[str, ...], list[Item]] = {}
    for item in group.items:
        by_roots.setdefault(item.roots, []).append(item)
    found = [tuple(each) for each in by_roots.values()]
    worst = max(size.memory(group, each) for each in found)
    if worst > limit:
        raise UsageError(
            f"{where} needs more memory than a worker has for a partition; set shard_mb of the grid lower"
            " (or regrid.memory_gb higher, where workers have more)",
            expected=f"at most {amount(limit)}",
            found=f"{amount(worst)} for {prod((size.fields, size.block)):,} values in each of "
            f"{len(roots_of(max(found, key=lambda e: size.memory(group, e))))} field(s) at once",
        )
    return found


def amount(count: float) -> str:
    """Bytes as a person reads them: ``1.25 GB``, ``38.2 MB``."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _statistics(recipe: ForecastRecipe, name: str) -> tuple[Statistic, ...]:
    return tuple(dict.fromkeys(s for row in recipe.statistics if name in row.of for s in row.wanted))
