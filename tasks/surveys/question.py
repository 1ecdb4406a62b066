"""What a check asks a child process, and what comes back."""

from typing import Literal

import msgspec

from .formats import Family
from .login import Keys
from .reasons import Reason


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """A granule to be looked at: ``structure`` reads what it holds, ``tile`` makes a tile of ``variable``.

    ``token`` and ``keys`` go to the child through its connection and nowhere else.
    """

    what: Literal["structure", "tile"]
    url: str
    family: Family
    variable: str | None = None
    token: str | None = None
    keys: Keys | None = None
    region: str = "us-west-2"
    endpoint: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be in any text that comes back."""
        keys = (self.keys.access, self.keys.secret, self.keys.session) if self.keys else ()
        return (*((self.token,) if self.token else ()), *keys)


class Variable(msgspec.Struct, frozen=True):
    """A variable of a granule (or a band of a picture): its name, dimensions, shape and type."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str


class Structure(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a granule holds. ``variable`` is the one that a tile is made of; ``crs`` is None where none is declared."""

    format: str
    backend: Literal["rasterio", "xarray"]
    variables: tuple[Variable, ...] = ()
    dimensions: dict[str, int] = {}
    groups: tuple[str, ...] = ()
    crs: str | None = None
    variable: str | None = None


class Tile(msgspec.Struct, frozen=True):
    """A tile (Web Mercator) that was made: where, the share of it that holds data, and the picture as PNG."""

    z: int
    x: int
    y: int
    valid: float
    png: bytes


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a child says: structure or tile, or the reason why not; ``passing`` when a server did not answer."""

    structure: Structure | None = None
    tile: Tile | None = None
    reason: Reason | None = None
    passing: bool = False
    message: str = ""
    versions: dict[str, str] = {}
