"""Backfill: a range of runs brought to its end, newest or oldest first, a few at once, within a budget.

``python -m flows.backfill RECIPE --start A --end B`` by hand, ``flows.backfill:backfill`` as the entrypoint of a
deployment. Every run is a flow run inside this one, on one cluster that is opened once and closed whatever happens:
that needs no deployment and no worker besides its own, and ends as a whole when it is cancelled. What a run did is in
the ledger, so a second backfill goes on where the first ended.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help, --plan and --no-prefect have no use for it.
    from flows.backfill_command import main

    raise SystemExit(main())

from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

from prefect import flow, get_run_logger
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from pydantic import Field

from tasks.backfill.drive import Driven
from tasks.backfill.range import label
from tasks.lake.errors import ExitCode, LakeError

from .artifacts import key
from .backfill_command import MAX_ACTIVE, Ask, as_flows, document, table_rows
from .request import DEFAULT_LAKE, Moment, RecipeName, Request, Selection, Settings, documented
from .runtime import open_cluster

_asked: list[tuple[Callable[[str], None], list[Driven]]] = []


class Unfinished(LakeError):
    """A backfill whose runs are not all done."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = code


def _named() -> str:
    from prefect.runtime import flow_run

    given = flow_run.parameters
    listed = given.get("runs")
    which = f"{len(listed)} runs" if listed else f"{given.get('start') or ''}..{given.get('end') or ''}"
    return f"{given['recipe']} {which} backfill"


@flow(name="backfill", flow_run_name=_named, persist_result=False)
@documented
def backfill(
    recipe: Annotated[RecipeName, Field(description="A forecast recipe by its name, or a YAML file on the worker.")],
    start: Annotated[Moment, Field(description="First run of the range, in UTC.")] = "",
    end: Annotated[Moment, Field(description="Last run of the range, in UTC; the latest when absent.")] = "",
    runs: Annotated[list[str] | None, Field(description="In the place of a range: runs or partitions.")] = None,
    phase: Annotated[
        Literal["pipeline", "ingest", "refine", "validate", "regrid", "export"],
        Field(description="All five phases, or one."),
    ] = "pipeline",
    select: Annotated[
        Selection, Field(description="Runs of which something is missing, failed, stale; or all.")
    ] = "missing",
    order: Annotated[Literal["newest", "oldest"], Field(description="Which run comes first.")] = "newest",
    max_active: Annotated[int, Field(ge=1, description="Runs worked on at once.")] = MAX_ACTIVE,
    budget: Annotated[float | None, Field(description="USD that estimates and what was spent stay within.")] = None,
    plan: Annotated[bool, Field(description="Only make the table of what it will take.")] = False,
    force: Annotated[bool, Field(description="Do again what is done, too.")] = False,
    lake: Annotated[str, Field(description="The lake: a folder, s3://bucket/prefix, or a block.")] = DEFAULT_LAKE,
    cluster: Annotated[str, Field(description="Where the work runs, as of every flow: one for all runs.")] = "local",
    settings: Annotated[Settings, Field(description="Keys of the recipe for these runs only.")] = {},  # noqa: B006 (a form shows it; never changed)
) -> dict[str, Any]:
    """Bring a range of runs to its end: a table artifact shows every run in every phase. Fails unless all are done."""
    request = Request(
        recipe=recipe, start=start, end=end, lake=lake, select=select, force=force, cluster=cluster,
        settings=settings or {},
    )  # fmt: skip
    ask = Ask(request, tuple(runs or ()), phase, order, max_active, budget)
    log = get_run_logger()
    found = ask.look()
    name = found.context.recipe.name
    made = None if plan else Driven()
    if made is not None and found.taken:
        progress: Any = create_progress_artifact(
            0.0, key=key(name, "backfill", "progress"), description=f"{name} backfill"
        )
        over = 0

        def say(sentence: str) -> None:
            nonlocal over
            over += 1
            log.info("%s", sentence)
            update_progress_artifact(progress, min(100.0, 100.0 * over / len(found.taken)))
            for tell, _ in _asked:
                tell(sentence)

        with open_cluster(cluster) as place:
            made = ask.drive(found, as_flows(ask, found, place.address or "none"), say)
    for _, results in _asked:
        results.append(made or Driven())
    told = document(ask, found, made, found.again() if made is not None and found.taken else found.runs)
    said = f"{name} {label([r.scope for r in found.runs])}, {len(found.taken)} run(s) taken"
    said += f"; about {told['estimate']['usd']:.4f} USD" if made is None else f"; about {made.spent:.4f} USD spent"
    create_table_artifact(
        table=table_rows(told), key=key(name, "backfill"), description="\n\n".join([said, *told["rates"]])
    )
    if made is not None and made.exit_code is not ExitCode.DONE:
        problems = [
            *map(str, made.errors.values()),
            *(p for rs in made.reports.values() for r in rs for p in r.problems),
        ]
        left = f"{len(made.left)} run(s) are left by the budget" if made.left else ""
        raise Unfinished("; ".join(p for p in [*problems[:3], left] if p) or "not all runs are done", made.exit_code)
    return told


def driven(ask: Ask, say: Callable[[str], None]) -> Driven:
    """Call the flow from the command line; what became of the runs."""
    results: list[Driven] = []
    _asked.append((say, results))
    request, flow_itself = ask.request, cast(Any, backfill)
    try:
        flow_itself(
            request.recipe, request.start, request.end, list(ask.runs), ask.phase, request.select, ask.order,
            ask.max_active, ask.budget, False, request.force, request.lake, request.cluster,
            dict(request.settings or {}),
        )  # fmt: skip
    except Unfinished:
        # Said by the runs themselves.
        if not results:
            raise
    finally:
        _asked.pop()
    return results[0]
