"""The acceptance scale: which checks run, what a score means, what follows; files a meteorologist edits."""

import importlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from ..lake.registry import Strict
from .check import checks

DEFAULT = "default"

Event = Literal["flagged", "quarantined", "held", "rejected", "lost", "failed", "crashed"]
"""What somebody can be told of."""


class Policy(Strict):
    """What becomes of a run by its verdict; an accepted one is published."""

    flagged: Literal["publish", "hold"] = Field(default="publish", description="publish: with flags in the cube.")
    quarantined: Literal["publish", "hold"] = Field(
        default="publish", description="publish: without the bad cells, which are missing in the cube."
    )
    rejected: Literal["hold", "roll_back"] = Field(
        default="hold", description="hold: the branch stays for somebody to look at; roll_back: it is dropped."
    )


class Notify(Strict):
    """Who is told of what: a Prefect block by ``TYPE/NAME`` and the events."""

    block: str = Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$", description="slack-webhook/weather-ops, sns-topic/alerts...")
    on: tuple[Event, ...] = ("flagged", "quarantined", "held", "rejected", "lost", "failed", "crashed")


class CheckConfig(Strict):
    """Acceptance scale of a recipe: which checks run, what score leads to which verdict, what a verdict does.

    What is not said here comes from the file ``scale``, and what that leaves out from the checks themselves.
    """

    scale: str = Field(default=DEFAULT, description="A file of deployments/validation/, or a path to one.")
    accept_above: float = Field(default=0.95, ge=0, le=1)
    flag_above: float = Field(default=0.8, ge=0, le=1, description="Below, the check's own action is taken.")
    quarantine_at_most: float = Field(
        default=0.1, ge=0, le=1, description="Share of a variable's cells; when more are bad, the run is rejected."
    )
    policy: Policy = Policy()
    damaged: Literal["refuse", "quarantine"] = Field(
        default="refuse",
        description="A message that cannot be read: refuse fails the partition, quarantine keeps it apart and goes on.",
    )
    climatology: int = Field(default=20, ge=0, le=400, description="Accepted runs that a run is held against.")
    notify: tuple[Notify, ...] = ()
    defaults: bool = Field(default=True, description="Run the default suite; entries of 'run' replace or join it.")
    run: tuple[checks.field, ...] = ()  # type: ignore[valid-type]

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return _merged(read(str(value.get("scale", DEFAULT))), value)

    @model_validator(mode="after")
    def _something_runs(self) -> "CheckConfig":
        if not self.defaults and not self.run:
            raise ValueError("switches every check off: name at least one in 'run' or leave 'defaults' on")
        for of, accept, flag in [("", self.accept_above, self.flag_above), *self._own()]:
            if flag > accept:
                raise ValueError(f"flag_above ({flag}) is higher than accept_above ({accept}){of}")
        return self

    def _own(self) -> list[tuple[str, float, float]]:
        return [(f" of {check.type}", *self.thresholds(check)) for check in self.run]

    def thresholds(self, check: Any) -> tuple[float, float]:
        """(accept_above, flag_above) for a check."""
        accept = self.accept_above if check.accept_above is None else check.accept_above
        flag = self.flag_above if check.flag_above is None else check.flag_above
        return max(accept, flag) if check.accept_above is None else accept, flag


def folder() -> Path:
    """Where the scales that come with weatherlake lie."""
    return Path(importlib.import_module("deployments").__path__[0]) / "validation"


def names() -> list[str]:
    """Names of the scales that come with weatherlake."""
    return sorted(p.stem for p in folder().glob("*.yaml"))


def read(name: str) -> dict[str, Any]:
    """A scale by name or path, as a document: what it ``extends`` first, then what it says itself.

    Raises ``ValueError``, which names the file, when there is none or it is no scale.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder() / f"{name}.yaml"
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"scale {name!r} is not there; known are: {', '.join(names())}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"scale {path.name} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not isinstance(document.get("checks", {}), dict):
        raise ValueError(f"scale {path.name} is not a mapping with the keys of 'checks' and a mapping 'checks'")
    known = {
        "extends",
        "checks",
        "accept_above",
        "flag_above",
        "quarantine_at_most",
        "policy",
        "damaged",
        "climatology",
    }
    unknown = sorted(set(document) - known)
    if unknown:
        raise ValueError(f"scale {path.name} has an unknown key {', '.join(map(repr, unknown))}")
    base = read(str(document.pop("extends"))) if "extends" in document else {}
    own = document.get("checks") or {}
    inherited = base.get("checks") or {}
    merged = {
        n: {**(inherited.get(n) or {}), **(own.get(n) or {})}
        for n in [*inherited, *(k for k in own if k not in inherited)]
    }
    return base | document | {"checks": merged}


def _merged(scale: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """The document of a recipe's ``checks`` with the scale's values where it says nothing."""
    of_check: dict[str, Any] = scale.pop("checks", {})
    given = []
    for entry in value.get("run") or ():
        entry = {"type": entry} if isinstance(entry, str) else entry
        if isinstance(entry, dict):
            entry = {**of_check.get(str(entry.get("type")), {}), **entry}
        given.append(entry)
    there = {e.get("type") if isinstance(e, dict) else getattr(e, "type", None) for e in given}
    if value.get("defaults", True):
        given += [{"type": name, **keys} for name, keys in of_check.items() if name not in there]
    return {**scale, **value, "run": given}
