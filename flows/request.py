"""What a flow is asked for: its parameters, said once, for the command line and for Prefect's forms.

`Request` is the list of parameters. The signature and the help texts of every flow that runs phases are made from it
(`flow_of`), so the form in Prefect's UI, the schema its server checks and the code that reads the values are one thing.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, get_type_hints

from pydantic import Field, GetJsonSchemaHandler, WithJsonSchema
from typing_extensions import Doc

from tasks.forecasts.runs import parse_run
from tasks.lake import recipe as recipes
from tasks.lake.errors import UsageError
from tasks.lake.lake import Lake
from tasks.lake.ledger import Select
from tasks.lake.phase import Window
from tasks.lake.recipe import Recipe
from tasks.plan import HANG, Options

from .lakes import url_of

DEFAULT_LAKE = "./lake"


class _Recipes:
    """The recipes there are, as choices of a form that takes the path of a YAML file, too."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        known = {"title": "a recipe", "type": "string", "enum": recipes.names()}
        return {"anyOf": [known, {"title": "a YAML file", "type": "string"}]}


RecipeName = Annotated[str, _Recipes()]
"""Name of a recipe, or the path of a YAML file (where the flow runs)."""

Moment = Annotated[str | None, WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time in UTC: a picker in a form, and text such as ``2026-11-20T00`` or ``2026-11-20`` everywhere else. An empty
text is none: a form sends the default that it shows, and the server refuses null where a picker can be."""

Selection = Annotated[str, WithJsonSchema({"type": "string", "enum": [str(s) for s in Select]})]
"""Which partitions (see `Select`)."""

ClusterName = Annotated[
    str,
    WithJsonSchema(
        {
            "anyOf": [
                {"title": "here", "type": "string", "enum": ["local", "none"]},
                {"title": "a block or an address", "type": "string"},
            ]
        }
    ),
]
"""``local``, ``none``, the address of a Dask scheduler, or a cluster block as TYPE/NAME."""

Minutes = Annotated[float, Field(ge=0)]
Limit = Annotated[float, Field(gt=0)]
Times = Annotated[int, Field(ge=0, le=10)]
Count = Annotated[
    int | None,
    WithJsonSchema(
        {"anyOf": [{"title": "days", "type": "integer", "minimum": 0}, {"title": "not used", "type": "null"}]}
    ),
]
"""A number of days from 0 on, or nothing."""

Settings = Annotated[Mapping[str, Any] | None, WithJsonSchema({"type": "object"})]
"""Keys of a recipe with their values."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a flow was asked for, in the flow's own parameters."""

    recipe: Annotated[RecipeName, Doc("What to build: a recipe by its name, or the path of a YAML file on the worker.")]
    run: Annotated[
        Moment, Doc("One run, its initialisation time in UTC. Without a run, a range or days back: the latest.")
    ] = ""
    start: Annotated[Moment, Doc("First run of a range, in UTC.")] = ""
    end: Annotated[Moment, Doc("Last run of a range, in UTC.")] = ""
    latest: Annotated[bool, Doc("The newest run that should be complete by now.")] = False
    lake: Annotated[str, Doc("The lake: a folder, s3://bucket/prefix, or a block as block:weatherlake-lake/NAME.")] = (
        DEFAULT_LAKE
    )
    select: Annotated[
        Selection,
        Doc(
            "missing: never done, stale, lost or failed in passing. failed: whatever failed. stale: done once, but "
            "from other inputs or another recipe. all: everything not done."
        ),
    ] = str(Select.MISSING)
    force: Annotated[bool, Doc("Do again what is done, too.")] = False
    cluster: Annotated[
        ClusterName,
        Doc(
            "Where the work runs: local (a Dask cluster on the worker's machine), none (threads), the address of a "
            "scheduler (tcp://...), or a cluster block as TYPE/NAME."
        ),
    ] = "local"
    settings: Annotated[
        Settings, Doc('Keys of the recipe for this run only, with dots: {"select.members": [0, 1]}.')
    ] = field(default_factory=dict)
    days_back: Annotated[Count, Doc("In the place of a range: the runs of today and of so many days before.")] = None
    wait: Annotated[Minutes, Doc("Minutes to wait for a run that is not complete yet at its provider.")] = 0.0
    retries: Annotated[
        Times,
        Doc(
            "How often a phase that ended with a passing failure (network, quota) is tried again, after 1, 2, 4... "
            "minutes."
        ),
    ] = 0
    hang: Annotated[
        Limit,
        Doc("Minutes after which a partition, besides what its bytes take, is taken to hang and its worker replaced."),
    ] = HANG / 60
    performance_report: Annotated[
        bool, Doc("Keep Dask's performance report of each phase in the lake (needs a Dask cluster).")
    ] = False

    @property
    def window(self) -> Window:
        """The runs that are meant. Raises ``UsageError``."""
        start = moment(self.start) if self.start else None
        if self.days_back is not None:
            if self.days_back < 0 or self.run or self.start or self.latest:
                raise UsageError("days back is a number of days from 0 on, in the place of a run or a start")
            start = datetime.combine(datetime.now(UTC).date(), time.min, UTC) - timedelta(days=self.days_back)
        return Window(
            run=_run(self.run) if self.run else None,
            start=start,
            end=moment(self.end, hour=23) if self.end else None,
            latest=self.latest,
        )

    @property
    def which(self) -> str:
        """The runs that are meant, in a word or two: ``2026-11-20T00``, ``latest``. Raises ``UsageError``."""
        if self.start or self.end:
            ends = ((self.start, 0), (self.end, 23))
            return "..".join(f"{moment(text, hour):%Y-%m-%dT%H}" if text else "" for text, hour in ends)
        if self.days_back is not None:
            return f"{self.days_back} days back"
        if self.latest:
            return "latest"
        if self.run:
            return f"{_run(self.run):%Y-%m-%dT%H}"
        runs = getattr(self.load(), "runs", None)
        return str(getattr(runs, "default", None) or "latest")

    def load(self) -> Recipe:
        """The recipe with its settings. Raises ``RecipeError``, ``UsageError``."""
        return recipes.load(self.recipe, self.settings or {})

    def open(self) -> Lake:
        """The lake. Raises ``UsageError`` for a URL that is none, ``AccessError`` for a block that cannot be loaded."""
        return Lake(url_of(self.lake))

    def options(self, flow_run_id: str | None = None) -> Options:
        """How the phase is to be run."""
        return Options(Select(self.select), self.force, flow_run_id, self.hang * 60, self.performance_report)

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "Request":
        """What a flow run's parameters ask for; parameters that are not of a request are left out."""
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in parameters.items() if name in names and value is not None})


def moment(text: str, hour: int = 0) -> datetime:
    """A time in UTC from an ISO 8601 text; a date alone means ``hour`` o'clock. Raises ``UsageError``."""
    try:
        return datetime.combine(date.fromisoformat(text), time(hour), UTC)
    except ValueError:
        return _run(text)


def _run(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return parse_run(text)
    if "T" not in text or found.minute or found.second:
        return parse_run(text)
    # A form sends the offset of the one who fills it in.
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def flow_of[R](
    name: str,
    body: Callable[..., R],
    description: str,
    extra: Sequence[inspect.Parameter] = (),
    **more: Any,
) -> Any:
    """The Prefect flow of this name with the parameters of a `Request`, and ``extra`` ones (see `parameter`).

    ``body`` is called with the request, and with the extra parameters by name; ``more`` goes to Prefect's ``flow``.
    """
    from prefect import flow

    own = _parameters()
    signature = inspect.Signature([*own, *extra])
    others = [p.name for p in extra]

    def run_it(*given: Any, **named: Any) -> R:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        return body(Request.of(bound.arguments), **{key: bound.arguments[key] for key in others})

    run_it.__name__ = run_it.__qualname__ = name
    run_it.__doc__ = description
    run_it.__signature__ = signature  # type: ignore[attr-defined]
    return flow(name=name, description=description, persist_result=False, **more)(documented(run_it))


def documented[F: Callable[..., Any]](function: F) -> F:
    """The function, with the help texts of its annotations in its docstring: from there Prefect takes those of a form,
    and nowhere else. (To be put below ``@flow``, which is given its description by itself.)"""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    texts = [f"    {p.name}: {_help(p.annotation)}" for p in parameters]
    function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *texts])
    return function


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter of a flow; the annotation has its help text (``Doc``)."""
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def _parameters() -> list[inspect.Parameter]:
    """The fields of a `Request` as parameters of a function."""
    kinds = get_type_hints(Request, include_extras=True)
    made = []
    for one in dataclasses.fields(Request):
        default: Any = inspect.Parameter.empty if one.default is dataclasses.MISSING else one.default
        if one.default_factory is not dataclasses.MISSING:
            default = one.default_factory()
        made.append(parameter(one.name, kinds[one.name], default))
    return made


def _help(annotation: Any) -> str:
    for said in getattr(annotation, "__metadata__", ()):
        if text := getattr(said, "documentation", None) or getattr(said, "description", None):
            return str(text)
    return ""
