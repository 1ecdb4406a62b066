"""Watch: a run, or the part of it that is waited for, is complete at its provider - an event says so once.

``python -m flows.watch RECIPE`` by hand, ``flows.watch:watch`` as the entrypoint of a deployment. An automation that
waits for ``weatherlake.run.available`` starts the pipeline.
"""

if __name__ == "__main__":
    # Before Prefect is imported: --help and --no-prefect have no use for it.
    from flows.watch_command import main

    raise SystemExit(main())

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from pydantic import Field

from tasks.watch.notices import Queue

from .artifacts import key
from .events import available
from .request import DEFAULT_LAKE, Moment, RecipeName, Request, documented
from .watch_command import BACK, EVERY, Pace, Watched, listening, probing


def _named() -> str:
    from prefect.runtime import flow_run

    return f"{flow_run.parameters['recipe']} watch"


@flow(name="watch", flow_run_name=_named, persist_result=False)
@documented
def watch(
    recipe: Annotated[RecipeName, Field(description="A forecast recipe by its name, or a YAML file on the worker.")],
    lake: Annotated[str, Field(description="The lake: a folder, s3://bucket/prefix, or a block.")] = DEFAULT_LAKE,
    run: Annotated[Moment, Field(description="One run; otherwise those begun within so many hours.")] = "",
    back: Annotated[float, Field(ge=0, description="Hours back to which runs may become complete.")] = BACK,
    usable_to: Annotated[
        list[int] | None, Field(description="Lead times (h): an event, too, when all up to there is there.")
    ] = None,
    minutes: Annotated[float, Field(ge=0, description="How long to watch; 0 looks once.")] = 0.0,
    every: Annotated[float, Field(gt=0, description="Seconds between two looks.")] = EVERY,
    queue: Annotated[str | None, Field(description="URL of an SQS queue with the bucket's notifications.")] = None,
) -> list[dict[str, Any]]:
    """Look at the provider, once or for some time; an event ``weatherlake.run.available`` for every run and stage that
    is reached. Whoever looks and however often, each is told once: the lake keeps what was told.
    """
    log = get_run_logger()
    said: set[str] = set()

    def say(sentence: str) -> None:
        if sentence not in said:
            said.add(sentence)
            log.info("%s", sentence)

    watched = Watched(Request(recipe=recipe, run=run, lake=lake), back, tuple(usable_to or ()))
    looking = watched.watch(available)
    pace = Pace(minutes == 0, every, datetime.now(UTC) + timedelta(minutes=minutes))
    found = listening(watched, looking, pace, Queue(queue), say) if queue else probing(watched, looking, pace, say)
    rows = [one.as_json() for one in found]
    for one in found:
        log.info("%s %s: %s", one.recipe, one.run, "complete" if one.complete else f"usable to +{one.usable_to} h")
    if rows:
        name = found[0].recipe
        create_table_artifact(table=rows, key=key(name, "watch"), description=f"{name}: what became available")
    return rows
