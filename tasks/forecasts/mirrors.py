"""Which mirror to ask first: as the recipe orders them, unless one was seen to fail or to lag."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import orjson

from ..lake.errors import ConflictError, LakeError, NotFound
from ..lake.phase import Context
from .archive import Archive
from .recipe import ForecastRecipe
from .sources.source import SourceFile

_WEIGHT = 0.3
"""Weight of the newest run in the moving averages."""

_FAILING = 0.2
_LAGGING = 0.5


@dataclass(frozen=True, slots=True)
class Health:
    """Moving averages of a mirror: share of looks that failed, and hours from init_time to its newest file of a run."""

    errors: float = 0.0
    lag: float | None = None

    def after(self, error: bool, lag: float | None) -> "Health":
        """With one more run seen."""
        newer = self.lag if lag is None else lag if self.lag is None else self.lag + _WEIGHT * (lag - self.lag)
        return Health(self.errors + _WEIGHT * (error - self.errors), newer)


def preferred(health: Sequence[Health]) -> list[int]:
    """Numbers of the mirrors in the order they are to be asked.

    A mirror that failed in more than a fifth of the looks, or is more than half an hour behind the fastest, is asked
    after those that are not; otherwise the recipe's order stands.
    """
    fastest = min((h.lag for h in health if h.lag is not None), default=0.0)

    def rank(number: int) -> tuple[bool, bool, int]:
        lag = health[number].lag
        return health[number].errors > _FAILING, lag is not None and lag - fastest > _LAGGING, number

    return sorted(range(len(health)), key=rank)


def read(context: Context[ForecastRecipe], archive: Archive) -> list[Health]:
    """What is known of the recipe's mirrors, in the recipe's order."""
    return _read(context, archive)[0]


def _read(context: Context[ForecastRecipe], archive: Archive) -> tuple[list[Health], str | None]:
    try:
        data, etag = context.lake.objects.get_with_etag(_key(context.recipe))
    except NotFound:
        return [Health() for _ in archive.mirrors], None
    known = orjson.loads(data)
    return [Health(**known.get(archive.base(number), {})) for number in range(len(archive.mirrors))], etag


def observe(context: Context[ForecastRecipe], archive: Archive, run: datetime, file: SourceFile) -> None:
    """Look at a run's last file on every mirror, one request each, and remember how each of them did."""
    if len(archive.mirrors) < 2:
        return
    seen: list[tuple[bool, float | None]] = []
    for store in archive.mirrors:
        try:
            meta = store.head(file.url)
        except LakeError:
            seen.append((True, None))
            continue
        seen.append((meta is None, (meta.last_modified - run).total_seconds() / 3600 if meta else None))
    known, etag = _read(context, archive)
    after = {archive.base(n): asdict(known[n].after(*s)) for n, s in enumerate(seen)}
    data = orjson.dumps(after, option=orjson.OPT_INDENT_2)
    try:
        if etag is None:
            context.lake.objects.put_new(_key(context.recipe), data)
        else:
            context.lake.objects.replace(_key(context.recipe), data, etag)
    except ConflictError:
        # Another run's look came first; an average does without this one.
        pass


def _key(recipe: ForecastRecipe) -> str:
    return f"sources/{recipe.name}.json"
