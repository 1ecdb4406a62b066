"""How long a recipe keeps what it needs no more: what `flows.maintain` goes by when nothing else is said."""

from typing import Literal

from pydantic import Field

from .registry import Strict

type Fate = Literal[
    "keep", "delete", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"
]
"""What becomes of objects: they stay, they go, or they move to a storage class of S3."""


class Retention(Strict):
    """What stays, and for how long."""

    history_days: float = Field(
        default=30, ge=0, description="Days for which earlier published versions of a cube can be opened."
    )
    staging: Fate = Field(default="keep", description="What becomes of the forks of a run once it is published.")
    raw: Fate = Field(default="keep", description="What becomes of the copies of a run once it is published.")
