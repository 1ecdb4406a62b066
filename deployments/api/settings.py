"""What the API is told when it starts: what it serves, to whom, and how much of it."""

import logging
import os
import sys
from typing import Annotated

from limits import parse
from pydantic import BeforeValidator, Field, SecretStr

from tasks.lake.errors import UsageError
from tasks.lake.registry import Strict
from tasks.lake.secrets import reveal

VARIABLE = "WEATHERLAKE_API"
"""Environment variable in which the settings reach worker processes, as JSON; secrets are in it by reference only."""


def _known_rate(value: str | None) -> str | None:
    if value in (None, "", "none"):
        return None
    try:
        parse(value)
    except ValueError:
        raise ValueError("a rate is written like 20/second or 600/minute, or 'none'") from None
    return value


class Settings(Strict):
    """Everything that can be set; the names are those of the flags of ``python -m deployments.api``."""

    lake: str = Field(description="Folder or URL of the lake.")
    recipe: tuple[str, ...] = Field(default=(), description="Recipes to serve; all of the lake when absent.")
    refresh: float = Field(default=5.0, gt=0, le=3600, description="Seconds between two looks at what is published.")
    key: tuple[str, ...] = Field(
        default=(), description="References to the API keys that are let in (env:NAME, file:PATH...); open when absent."
    )
    rate: Annotated[str | None, BeforeValidator(_known_rate)] = Field(
        default="1200/minute", description="Requests a client may make, in each worker process; 'none' for any number."
    )
    max_points: int = Field(default=2_000, ge=1, description="Points of a request.")
    max_values: int = Field(default=2_000_000, ge=1, description="Values in an answer.")
    max_read_mb: int = Field(default=512, ge=1, description="MB of decoded chunks that a request may touch.")
    max_body_kb: int = Field(default=1_024, ge=1, description="KB of a request's body.")
    memory_mb: int = Field(default=1_024, ge=64, description="MB that all requests under way may take in a process.")
    cache_mb: int = Field(default=256, ge=0, description="MB of decoded chunks that are kept in a process.")
    index_mb: int = Field(default=128, ge=1, description="MB of shard indexes that are kept in a process.")
    timeout: float = Field(default=30.0, gt=0, description="Seconds until a request is given up (503).")
    slow: float = Field(default=10.0, gt=0, description="Seconds a client has for its headers, and between pieces.")
    connections: int = Field(default=512, ge=1, description="Connections open at once in a process; more get 503.")

    def keys(self) -> tuple[SecretStr, ...]:
        """The API keys behind the references. Raises ``UsageError``, ``AccessError``."""
        return tuple(reveal(reference) for reference in self.key)

    def hand_on(self) -> None:
        """Put the settings where worker processes find them."""
        os.environ[VARIABLE] = self.model_dump_json()


def handed_on() -> Settings:
    """The settings of this worker process. Raises ``UsageError`` when nobody handed any on."""
    try:
        return Settings.model_validate_json(os.environ[VARIABLE])
    except KeyError:
        raise UsageError(f"the API is started with python -m deployments.api, which sets {VARIABLE}") from None


def log() -> None:
    """Log to standard output, a line an event; what requests are answered with are lines of JSON."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
