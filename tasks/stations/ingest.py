"""Ingest of observations: requests within the provider's quota, answers as they came, every version kept."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import orjson

from ..lake.errors import CorruptInput, LakeError, NotFound, TransientError, UsageError
from ..lake.ledger import Record
from ..lake.partition import Input, Output, Partition, Produced, Status, digest_bytes, fingerprint
from ..lake.phase import Context, Phase, ScopePlan, Window
from . import catalogue, raw
from .edr import Edr, open_edr
from .recipe import StationRecipe
from .requests import SCOPE, Ask, Book, Wanted, datetimes, enter, halves, missing, packed, read_book, singles
from .times import Span, following, moment, number, open_from, spans

_EMPTY = b'{"type":"CoverageCollection","coverages":[]}'
_BYTES_A_POINT = 6
_ONE_BY_ONE = "one-station"
_KEPT_OPEN = 2
_RESUME = timedelta(hours=24)


class Ingest(Phase[StationRecipe]):
    """Partition: a request, packed by data points. Output: ``raw/<recipe>/<request>/...json.zst``."""

    name = "ingest"
    version = "1"
    threads = 32
    batch_count = 64
    batch_bytes = 2**40
    settles = False

    def __init__(self) -> None:
        # Requests are one scope whatever their times are; `plan` learns from `scopes` which times are meant.
        self._window = Window()

    def scopes(self, context: Context[StationRecipe], window: Window) -> list[str]:
        spans(context.recipe, window, datetime.now(UTC))
        self._window = window
        return [SCOPE]

    def plan(self, context: Context[StationRecipe], scope: str) -> ScopePlan:
        recipe = context.recipe
        now = datetime.now(UTC)
        offered = catalogue.current(context.lake, recipe, open_edr(recipe.source, context.lake))
        wanted = wanted_of(offered, recipe)
        book, _ = read_book(context.lake, recipe.name)
        points, several = bounds(context)
        asks, opens = _asks(recipe, offered, wanted, book, spans(recipe, self._window, now), now, points, several)
        slot = int(now.timestamp() // recipe.source.refresh)
        partitions = [_partition(self, recipe, ask, None) for ask in asks]
        partitions += [_partition(self, recipe, ask, slot) for ask in opens]
        notes = (f"{len(asks)} requests, {len(opens)} of them open; at most {points} data points each",)
        return ScopePlan(scope, tuple(partitions), notes)

    def prepare(self, context: Context[StationRecipe], scope: str, partitions: Sequence[Partition]) -> None:
        """Keep the catalogue and the requests. What is in the book stays planned, so nothing is fetched twice."""
        del scope
        recipe = context.recipe
        edr = open_edr(recipe.source, context.lake)
        catalogue.store(context.lake, recipe, catalogue.current(context.lake, recipe, edr))
        enter(context.lake, recipe.name, [_ask(p, recipe, whole=True) for p in partitions], recipe.step)

    def process(self, context: Context[StationRecipe], partition: Partition) -> Produced:
        recipe = context.recipe
        edr = open_edr(recipe.source, context.lake)
        ask = _ask(partition, recipe)
        record = context.ledger.read(self.name, partition.key)
        outputs: list[Output] = []
        rows = requests = 0
        with edr.pace.used():
            queue = [ask] if recipe.source.several and not edr.quota.noted(_ONE_BY_ONE) else singles(ask)
            while queue:
                part = queue.pop(0)
                if part.points > (edr.quota.noted(_points(recipe.source.collection)) or part.points):
                    # Planned before the provider said that this is too much.
                    queue[:0] = halves(part) or [part]
                    part = queue.pop(0)
                folder = _folder(recipe, partition.key, part, ask)
                data, fetched = _resumed(context, folder, record)
                if data is None:
                    try:
                        data = _fetch(edr, recipe, part)
                        requests += 1
                    except UsageError as error:
                        queue[:0] = _split(edr, part, error)
                        continue
                outputs.append(_stored(context, folder, data, fetched, record))
                rows += _rows(data)
        return Produced(
            outputs=tuple(outputs),
            metrics={"rows": rows, "requests": requests, "points": ask.points, "empty": int(not rows)},
        )


def wanted_of(offered: catalogue.Catalogue, recipe: StationRecipe) -> Wanted:
    """Station -> the parameters that a recipe wants of it; stations that measure none of them are left out."""
    stations = catalogue.chosen(offered, recipe)
    found = {s.id: catalogue.parameters_of(offered, recipe, s) for s in stations}
    return {station: names for station, names in found.items() if names}


def bounds(context: Context[StationRecipe]) -> tuple[int, bool]:
    """Data points a request is planned with, and whether it may name several stations: as far as was learnt."""
    source = context.recipe.source
    learnt = open_edr(source, context.lake).quota.noted(_points(source.collection))
    several = source.several and not open_edr(source, context.lake).quota.noted(_ONE_BY_ONE)
    return int(source.share * min(source.points, learnt or source.points)), several


def _points(collection: str) -> str:
    return f"points of {collection}"


def _asks(
    recipe: StationRecipe,
    offered: catalogue.Catalogue,
    wanted: Wanted,
    book: Book,
    wanted_spans: Sequence[Span],
    now: datetime,
    points: int,
    several: bool,
) -> tuple[list[Ask], list[Ask]]:
    """The closed and the open requests for what is wanted."""
    step = recipe.step
    first = number(offered.start, step) if offered.start is not None else wanted_spans[0].first
    month = open_from(now, recipe.source.open_months)
    border = number(month, step)
    closed = [s.clipped(Span(first, border)) for s in wanted_spans]
    closed = [s for s in closed if len(s)]
    asks = book.of(wanted, closed) + missing(book, wanted, closed, points, several)
    running = Span(max(border, first), number(following(month, recipe.source.open_months), step))
    opens: list[Ask] = []
    if any(len(s.clipped(running)) for s in wanted_spans):
        by_parameters: dict[tuple[str, ...], list[str]] = {}
        for station, names in sorted(wanted.items()):
            by_parameters.setdefault(names, []).append(station)
        for names, stations in by_parameters.items():
            opens += packed(stations, running, names, points, several, open=True)
    present = max(s.stop for s in wanted_spans)
    return asks, [a for a in opens if a.first < present]


def _partition(phase: Ingest, recipe: StationRecipe, ask: Ask, slot: int | None) -> Partition:
    """A request as a partition. An open one is another work in every refresh interval, so it is never finished."""
    part = {"url": recipe.source.url, "collection": recipe.source.collection, "slot": slot}
    key = ask.key(recipe.step)
    return Partition(
        key=key,
        fingerprint=fingerprint(phase.version, part, [Input(key)]),
        params={
            "stations": list(ask.stations), "parameters": list(ask.parameters), "first": ask.first, "stop": ask.stop,
            "open": ask.open,
        },
        bytes=ask.points * _BYTES_A_POINT,
        memory=ask.points * 60,
    )  # fmt: skip


def _ask(partition: Partition, recipe: StationRecipe, *, whole: bool = False) -> Ask:
    """A partition's request; an open one ends at the present unless it is wanted ``whole``."""
    p = partition.params
    stations, parameters = tuple(map(str, p["stations"])), tuple(map(str, p["parameters"]))  # type: ignore[arg-type]
    first, stop, is_open = int(str(p["first"])), int(str(p["stop"])), bool(p["open"])
    if is_open and not whole:
        present = number(datetime.now(UTC), recipe.step)
        stop = min(stop, max(first + 1, present))
    return Ask(first, stop, stations, parameters, is_open)


def _folder(recipe: StationRecipe, key: str, part: Ask, ask: Ask) -> str:
    """Where the versions of an answer lie: those of a split request beside each other."""
    base = f"raw/{recipe.name}/{key.removeprefix(SCOPE + '/')}"
    if part == ask:
        return f"{base}/whole"
    who = part.stations[0] if len(part.stations) == 1 else f"{part.stations[0]}-{len(part.stations)}"
    end = "open" if part.open and part.stop == ask.stop else f"{part.stop - part.first}"
    return f"{base}/{moment(part.first, recipe.step):%Y%m%dT%H%M}-{end}-{who}"


def _fetch(edr: Edr, recipe: StationRecipe, ask: Ask) -> bytes:
    """The answer to a request, seen to be whole. A place that has no data at all gives an empty collection."""
    path = f"collections/{recipe.source.collection}/locations/{','.join(ask.stations)}"
    query = {"datetime": datetimes(ask, recipe.step), "parameter-name": ",".join(ask.parameters)}
    try:
        data = edr.data(path, query)
    except NotFound as error:
        if len(ask.stations) > 1:
            raise UsageError(error.message) from None
        return _EMPTY
    if not data.strip():
        return _EMPTY
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise TransientError(f"{recipe.source.url}/{path} answered broken JSON ({error})") from None
    if not isinstance(document, dict) or document.get("type") not in ("Coverage", "CoverageCollection"):
        raise CorruptInput(
            f"{recipe.source.url}/{path} answered something else than data",
            expected="CoverageJSON (Coverage or CoverageCollection)",
            found=str(document.get("type") if isinstance(document, dict) else type(document).__name__)[:40],
        )
    return data


def _split(edr: Edr, ask: Ask, error: UsageError) -> list[Ask]:
    """Smaller requests in the place of one that was refused, and what is learnt from it.

    413: too many data points; from now on three quarters of them. 400 or 404 for several stations: the provider takes
    one at a time. Anything else is the request's fault, and no other form of it would help.
    """
    collection = edr.source.collection
    if "answered 413" in error.message:
        parts = halves(ask)
        if parts:
            learnt = edr.quota.noted(_points(collection)) or float(edr.source.points)
            edr.quota.note(_points(collection), min(learnt, max(ask.points / 2, ask.points * 0.75)))
            return parts
    elif len(ask.stations) > 1 and ("answered 400" in error.message or "answered 404" in error.message):
        edr.quota.note(_ONE_BY_ONE, 1)
        return singles(ask)
    raise error


def _resumed(context: Context[StationRecipe], folder: str, record: Record | None) -> tuple[bytes | None, datetime]:
    """An answer that an attempt stored which did not live to record it: it need not be fetched again."""
    now = datetime.now(UTC)
    attempts = record.history if record is not None else ()
    if not attempts or attempts[-1].status not in (Status.LOST, Status.FAILED):
        return None, now
    begun = now
    for past in reversed(attempts):
        if past.status not in (Status.LOST, Status.FAILED):
            break
        begun = past.started
    for version in reversed(raw.versions(context.lake.objects, folder)):
        if begun <= version.fetched and now - version.fetched < _RESUME:
            try:
                return raw.load(context.lake.objects, version.key), version.fetched
            except LakeError:
                break
    return None, now


def _stored(
    context: Context[StationRecipe], folder: str, data: bytes, fetched: datetime, record: Record | None
) -> Output:
    """The output of an answer: the version on record when it is the same again, otherwise a new version."""
    objects = context.lake.objects
    here = [o for o in (record.outputs if record is not None else ()) if o.uri.startswith(f"{folder}/")]
    new = Output(raw.key_of(folder, fetched, data), digest_bytes(data))
    for output in here:
        if output.digest == new.digest and objects.head(output.uri) is not None:
            return output
    stored = raw.store(objects, folder, data, fetched)
    if "/open-" in folder:
        # An open month is a longer answer every hour, not a corrected one: only the last ones are kept.
        for version in raw.versions(objects, folder)[:-_KEPT_OPEN]:
            if version.key not in {o.uri for o in here}:
                objects.delete(version.key)
    return stored


def _rows(data: bytes) -> int:
    """Timestamps in an answer, over all its coverages."""
    document = orjson.loads(data)
    coverages = document.get("coverages", [document] if document.get("type") == "Coverage" else [])
    try:
        axes = [c["domain"]["axes"].get("t", {}) for c in coverages]
        return sum(len(a["values"]) if "values" in a else int(a.get("num", 0)) for a in axes)
    except (KeyError, TypeError, AttributeError):
        # Refine says what is wrong with it; the bytes are kept as they are.
        return 0
