"""What a chore hands back: a table, a sentence, what is wrong, and numbers for those who watch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Chore:
    """One chore done, or planned. ``rows`` have a value per column; ``problems`` are sentences about what is not as
    it should be; ``facts`` are JSON values that events carry."""

    name: str
    summary: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    problems: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The chore as ``--json`` prints it."""
        return {
            "chore": self.name,
            "summary": self.summary,
            "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "problems": list(self.problems),
            **self.facts,
        }


def counted(count: int, noun: str) -> str:
    """``1 lease``, ``2 leases``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
