"""What work and storage cost, in money: list prices from ``deployments/prices.yaml``, for estimates."""

import os
from datetime import date
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from .errors import UsageError
from .registry import Strict, sentence

VARIABLE = "WEATHERLAKE_PRICES"
"""Environment variable that names another file of prices."""

_FILE = Path(__file__).resolve().parents[2] / "deployments" / "prices.yaml"


class Storage(Strict):
    """Prices of one storage class of S3."""

    gib_month: float = Field(ge=0, description="A GiB kept for a month.")
    put_1000: float = Field(ge=0, description="A thousand writes.")
    get_1000: float = Field(ge=0, description="A thousand reads.")
    retrieval_gib: float = Field(ge=0, description="A GiB read back.")
    days: int = Field(ge=0, description="Days that are paid for at least.")


class Prices(Strict):
    """List prices in USD, without tax, of one region at one date."""

    region: str
    as_of: date
    vcpu_hour: float = Field(ge=0, description="A vCPU of Fargate for an hour.")
    gib_hour: float = Field(ge=0, description="A GiB of Fargate's memory for an hour.")
    spot_share: float = Field(gt=0, le=1, description="What spot costs of the list price, about.")
    instance_hour: dict[str, float] = Field(description="An EC2 instance for an hour, by its type.")
    egress_gib: float = Field(ge=0, description="A GiB that leaves AWS.")
    storage: dict[str, Storage] = Field(description="By storage class of S3.")

    def fargate_hour(self, vcpu: float, gib: float) -> float:
        """A Fargate task for an hour."""
        return vcpu * self.vcpu_hour + gib * self.gib_hour


@lru_cache(maxsize=1)
def prices() -> Prices:
    """The prices in force. Raises ``UsageError`` for a file that is not there or not as it should be."""
    path = Path(os.environ.get(VARIABLE) or _FILE)
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except OSError as error:
        raise UsageError(f"prices cannot be read from {path} ({error.strerror})") from None
    except yaml.YAMLError:
        raise UsageError(f"{path} is no YAML") from None
    except ValidationError as error:
        raise UsageError(sentence(error, str(path))) from None
