"""Maintain: what a lake needs now and then - leases, staging, copies, cubes, audit, freshness, cost, clusters.

``python -m flows.maintain RECIPE`` by hand, ``flows.maintain:maintain`` as the entrypoint of a scheduled deployment.
"""

from .maintain_command import main

if __name__ == "__main__":
    # Before Prefect is imported: by hand there is no use for it.
    raise SystemExit(main())

from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from pydantic import Field

from tasks.lake.errors import ExitCode, LakeError
from tasks.upkeep.chore import Chore
from tasks.upkeep.chores import exit_code

from .artifacts import key
from .maintain_command import Upkeep, chores_of
from .request import DEFAULT_LAKE, RecipeName, Request, documented

ChoreName = Literal["clusters", "leases", "staging", "raw", "cubes", "audit", "freshness", "cost"]

_LISTED = 10


def _named() -> str:
    from prefect.runtime import flow_run

    return f"{flow_run.parameters['recipe']} maintain"


@flow(name="maintain", flow_run_name=_named, persist_result=False)
@documented
def maintain(
    recipe: Annotated[RecipeName, Field(description="Whose data: a recipe by its name, or a YAML file.")],
    chores: Annotated[list[ChoreName] | None, Field(description="Which chores; all when none is named.")] = None,
    lake: Annotated[str, Field(description="The lake: a folder, s3://bucket/prefix, or a block.")] = DEFAULT_LAKE,
    plan: Annotated[bool, Field(description="Say what there is to do, and do nothing.")] = False,
) -> list[dict[str, Any]]:
    """Do chores of a recipe: a table artifact and an event ``weatherlake.maintain.<chore>`` each.

    Fails when the audit finds outputs missing or changed; everything else that is not as it should be is in the
    artifact, the event and a warning.
    """
    done = []
    log = get_run_logger()
    name = Request(recipe=recipe).load().name
    for chore in chores_of(Upkeep(recipe, tuple(chores or ()), lake=lake, plan=plan)):
        done.append(chore)
        log.info("%s: %s", chore.name, chore.summary)
        for problem in chore.problems:
            log.warning("%s: %s", chore.name, problem)
        _tell(name, chore, plan)
    if exit_code(done) is ExitCode.FAILED:
        raise LakeError("; ".join(p for c in done for p in c.problems[:3]))
    return [c.as_json() for c in done]


def _tell(recipe: str, chore: Chore, plan: bool) -> None:
    rows: list[dict[str, Any]] = [dict(zip(chore.columns, row, strict=True)) for row in chore.rows]
    problems = "".join(f"\n- {p}" for p in chore.problems[:_LISTED])
    said = f"{recipe}: {chore.summary}{problems}"
    create_table_artifact(table=rows, key=key(recipe, "maintain", chore.name), description=said)
    if not plan:
        emit_event(
            f"weatherlake.maintain.{chore.name}",
            resource={
                "prefect.resource.id": f"weatherlake.recipe.{recipe}", "prefect.resource.name": recipe,
                "weatherlake.problems": str(len(chore.problems)),
            },
            payload={
                "recipe": recipe, "summary": chore.summary, "problems": list(chore.problems[:_LISTED]), **chore.facts
            },
        )  # fmt: skip
