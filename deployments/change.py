"""What registering did, or would do, to one thing on the Prefect server."""

from dataclasses import dataclass
from typing import Literal

Action = Literal["create", "update", "keep"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing on the server: its kind, its name, and what becomes of it."""

    kind: str
    name: str
    action: Action
    note: str = ""

    def sentence(self, planned: bool) -> str:
        """The change as a line of output."""
        verbs = {"create": ("created", "would be created"), "update": ("updated", "would be updated")}
        verb = verbs[self.action][planned] if self.action != "keep" else "unchanged"
        return f"{self.kind} {self.name}: {verb}" + (f" ({self.note})" if self.note else "")
