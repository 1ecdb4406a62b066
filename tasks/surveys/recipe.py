"""The recipe of a survey: catalogue, sampling, access, limits of a check."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from ..lake import recipe as recipes
from ..lake.recipe import Name
from ..lake.registry import Strict
from .reasons import COMPATIBLE, Reason


class Catalogue(Strict):
    """A catalogue that speaks the search API of NASA's Common Metadata Repository."""

    url: str = Field(default="https://cmr.earthdata.nasa.gov", description="Without the /search at the end.")
    query: Mapping[str, str | bool | int | tuple[str, ...]] = Field(
        default_factory=lambda: {"has_granules": True}, description="Which collections: parameters of the search."
    )
    page_size: int = Field(default=500, ge=1, le=2000, description="Collections a page; the server allows 2000.")
    rate: float = Field(default=20.0, gt=0, description="Requests a second at most, of each worker process.")


class Login(Strict):
    """Who asks for protected granules, as references to secrets (see ``tasks/lake/secrets.py``)."""

    url: str = Field(default="https://urs.earthdata.nasa.gov", description="Earthdata Login.")
    username: str | None = None
    password: str | None = None
    token: str | None = Field(default=None, description="A bearer token, in the place of user name and password.")
    hosts: tuple[str, ...] = Field(
        default=("nasa.gov",), description="Hosts (and their subdomains) that may see the token; no other does."
    )

    @field_validator("hosts")
    @classmethod
    def _lower(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host.lower().strip(".") for host in value)

    def model_post_init(self, context: object) -> None:
        del context
        if (self.token is None) == (self.username is None or self.password is None):
            raise ValueError("needs either a token, or a username and a password")


class Check(Strict):
    """How a granule is looked at."""

    access: Literal["https", "s3"] = Field(
        default="https", description="The link that is taken where a granule has both; S3 works in the region only."
    )
    region: str = Field(default="us-west-2", description="Region of the S3 buckets.")
    endpoint: str | None = Field(default=None, description="S3 endpoint, for stores other than AWS.")
    seconds: float = Field(default=60.0, gt=0, description="A check that takes longer is ended: timeout.")
    memory: int = Field(default=1536, ge=64, description="MiB that a check may allocate: out_of_memory.")
    attempts: int = Field(
        default=6, ge=1, description="After so many attempts at a server that does not answer: cant_open_file."
    )


class SurveyRecipe(recipes.Recipe):
    """What is surveyed, and how."""

    kind: Literal["survey"]
    catalogue: Catalogue = Catalogue()
    round: Name = Field(default="first", description="Name of the survey; another name is a survey of its own.")
    compare: Name | None = Field(
        default=None, description="The earlier round that changes are told against; the newest exported when absent."
    )
    seed: int = Field(default=1, description="Which granule of a collection is the sample: hash of its id and this.")
    login: Login | None = Field(default=None, description="For protected granules; nobody logs in when absent.")
    check: Check = Check()
    collections: tuple[str, ...] = Field(default=(), description="Only these concept ids; all of the query when empty.")
    reasons: tuple[str, ...] = Field(default=(), description="Only collections whose last verdict was one of these.")
    tiles_url: str | None = Field(
        default=None, description="Template with {collection} and {variable} for the tiles of a compatible collection."
    )

    @field_validator("reasons")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = [*Reason, COMPATIBLE]
        for name in value:
            if name not in known:
                raise ValueError(f"holds {name!r}; known are: {', '.join(known)}")
        return value
