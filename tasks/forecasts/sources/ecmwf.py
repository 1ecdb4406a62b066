"""ECMWF open data: IFS and AIFS, single runs and ensembles, atmosphere and waves.

Paths, streams and dates: https://confluence.ecmwf.int/display/DAC/ECMWF+open+data%3A+real-time+forecasts+from+IFS+and+AIFS
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import pyarrow as pa
from pydantic import Field, model_validator

from ...lake.errors import UsageError
from ..ecmwf_index import read_ecmwf
from .eras import Eras, Steps, by_hour, era_of, every, hours_after
from .source import Source, SourceFile, sources

MIRRORS = (
    "s3://ecmwf-forecasts?region=eu-central-1&anonymous=true",
    "https://storage.googleapis.com/ecmwf-open-data",
    "https://data.ecmwf.int/forecasts",
)
"""The last one serves at most 500 connections, all users together."""


class _Part(NamedTuple):
    """One file of a step: its stream and type as the path has them, and the member all of it belongs to."""

    stream: str
    type: str
    member: int | None = None


FOLDERS: dict[tuple[str, str], Eras[str]] = {
    ("ifs", "0p4-beta"): Eras({"2023-01-18": "0p4-beta", "2024-02-28T06": "ifs/0p4-beta"}),
    ("ifs", "0p25"): Eras({"2024-02-01": "0p25", "2024-02-28T06": "ifs/0p25"}),
    ("aifs-single", "0p25"): Eras(
        {
            "2024-02-28T06": "aifs/0p25",
            "2025-02-24T06": "aifs-single/0p25/experimental",
            "2025-02-25T06": "aifs-single/0p25",
        }
    ),
    ("aifs-ens", "0p25"): Eras({"2025-07-02": "aifs-ens/0p25"}),
}
"""Folder below ``YYYYMMDD/HHz``. 0.25-degree files have all 1440 longitudes from 2024-04-01 on."""

_MAIN, _SHORT = (0, 12), (6, 18)
_ALL = (0, 6, 12, 18)
_TO_144 = every((0, 144, 3))
_TO_240 = every((0, 144, 3), (150, 240, 6))
_TO_360 = every((0, 144, 3), (150, 360, 6))

_SINGLE: Eras[dict[Sequence[int], Steps]] = Eras(
    {
        "2023-01-18": {_MAIN: _TO_240, _SHORT: every((0, 90, 3))},
        "2024-11-12": {_MAIN: _TO_360, _SHORT: _TO_144},  # cycle 49r1
    }
)
_ENSEMBLE: Eras[dict[Sequence[int], Steps]] = Eras({"2023-01-18": {_MAIN: _TO_360, _SHORT: _TO_144}})
_BY_6 = every((0, 360, 6))

STEPS: dict[tuple[str, str], Eras[dict[Sequence[int], Steps]]] = {
    ("ifs", "oper"): _SINGLE,
    ("ifs", "wave"): _SINGLE,
    ("ifs", "enfo"): _ENSEMBLE,
    ("ifs", "waef"): _ENSEMBLE,
    ("aifs-single", "oper"): Eras({"2024-02-28T06": {_ALL: _BY_6}}),
    ("aifs-ens", "enfo"): Eras({"2025-07-02": {_ALL: _BY_6}}),
}

_50R1 = "2026-05-12T06"

FILES: dict[tuple[str, str], Eras[dict[Sequence[int], tuple[_Part, ...]]]] = {
    ("ifs", "oper"): Eras(
        {
            "2023-01-18": {_MAIN: (_Part("oper", "fc"),), _SHORT: (_Part("scda", "fc"),)},
            _50R1: {_ALL: (_Part("oper", "fc"),)},
        }
    ),
    ("ifs", "wave"): Eras(
        {
            "2023-01-18": {_MAIN: (_Part("wave", "fc"),), _SHORT: (_Part("scwv", "fc"),)},
            _50R1: {_ALL: (_Part("wave", "fc"),)},
        }
    ),
    ("ifs", "enfo"): Eras(
        {
            "2023-01-18": {_ALL: (_Part("enfo", "ef"),)},
            _50R1: {_ALL: (_Part("enfo", "ef"), _Part("oper", "fc", 0))},
        }
    ),
    ("ifs", "waef"): Eras(
        {
            "2023-01-18": {_ALL: (_Part("waef", "ef"),)},
            _50R1: {_ALL: (_Part("waef", "ef"), _Part("wave", "fc", 0))},
        }
    ),
    ("aifs-single", "oper"): Eras({"2024-02-28T06": {_ALL: (_Part("oper", "fc"),)}}),
    ("aifs-ens", "enfo"): Eras({"2025-07-02": {_ALL: (_Part("enfo", "cf", 0), _Part("enfo", "pf"))}}),
}
"""Files of a step. From cycle 50r1 on, the ensembles no longer hold their control: it is the single run."""

PARAMS: dict[str, Eras[frozenset[str]]] = {
    "ifs": Eras(
        {
            "2023-01-18": frozenset({"ptype", "10fg", "10fg3", "tcc"}),
            "2024-11-13": frozenset({"tcc"}),
            "2025-11-21": frozenset(),
        }
    ),
}
"""Params that a model's open data did *not* hold yet, by date."""

LEVELS = Eras(
    {
        "2023-01-18": (1000.0, 925.0, 850.0, 700.0, 500.0, 300.0, 250.0, 200.0, 50.0),
        "2024-02-01": (1000.0, 925.0, 850.0, 700.0, 600.0, 500.0, 400.0, 300.0, 250.0, 200.0, 150.0, 100.0, 50.0),
    }
)
"""Pressure levels (hPa) of the atmospheric streams; further ones may have come since."""

_MEMBERS = {"enfo": tuple(range(51)), "waef": tuple(range(51))}

_LATENCY = ((0, 7.0), (144, 7.7), (360, 8.5))
"""Step and hours after the initialisation time at which it is usually there."""


@sources.register("ecmwf")
class Ecmwf(Source):
    """ECMWF's open data: ``model`` and ``stream`` choose the product. Ensembles have members 0 (the control) to 50."""

    type: Literal["ecmwf"] = "ecmwf"
    model: Literal["ifs", "aifs-single", "aifs-ens"] = "ifs"
    stream: Literal["oper", "enfo", "wave", "waef"] = "oper"
    resolution: Literal["0p25", "0p4-beta"] = Field(
        default="0p25", description="0p25 from 2024-02-01 on; 0p4-beta from 2023-01-18 to early 2025."
    )
    mirrors: tuple[str, ...] = Field(default=MIRRORS, min_length=1, description="URLs, tried in this order.")

    @model_validator(mode="after")
    def _product(self) -> "Ecmwf":
        if (self.model, self.stream) not in FILES:
            known = ", ".join(stream for model, stream in FILES if model == self.model)
            raise ValueError(f"model {self.model!r} has no stream {self.stream!r}; it has: {known}")
        if (self.model, self.resolution) not in FOLDERS:
            known = ", ".join(resolution for model, resolution in FOLDERS if model == self.model)
            raise ValueError(f"model {self.model!r} has no resolution {self.resolution!r}; it has: {known}")
        return self

    @property
    def _what(self) -> str:
        return f"ECMWF {self.model} {self.stream} {self.resolution}"

    def roots(self) -> tuple[str, ...]:
        return self.mirrors

    def steps(self, run: datetime) -> tuple[int, ...]:
        FOLDERS[self.model, self.resolution].at(run, self._what)
        return by_hour(STEPS[self.model, self.stream].at(run, self._what), run, self._what)

    def members(self, run: datetime) -> tuple[int, ...] | None:
        del run
        return _MEMBERS.get(self.stream)

    def files(self, root: str, run: datetime, step: int) -> Sequence[SourceFile]:
        del root
        steps = self.steps(run)
        if step not in steps:
            raise UsageError(
                f"{self._what} {run:%Y-%m-%dT%H} has no step {step}", expected=f"one of {len(steps)} up to {steps[-1]}"
            )
        folder = f"{run:%Y%m%d}/{run:%H}z/{FOLDERS[self.model, self.resolution].at(run, self._what)}"
        files = []
        for part in by_hour(FILES[self.model, self.stream].at(run, self._what), run, self._what):
            stem = f"{folder}/{part.stream}/{run:%Y%m%d%H}0000-{step}h-{part.stream}-{part.type}"
            files.append(SourceFile(f"{stem}.grib2", f"{stem}.index", step, part.member))
        return files

    def parse(self, file: SourceFile, run: datetime, index: bytes, size: int | None) -> pa.Table:
        where = file.index_url or file.url
        return read_ecmwf(index, url=file.url, where=where, run=run, step=file.step, member=file.member, size=size)

    def era(self, run: datetime) -> str:
        product = self.model, self.stream
        return era_of(run, FOLDERS[self.model, self.resolution], STEPS[product], FILES[product], *self._params, LEVELS)

    def not_yet(self, run: datetime, param: str, level: float | None) -> str | None:
        if any(param in table.at(run, self._what) for table in self._params):
            since = next(start for table in self._params for start, absent in table if param not in absent)
            return f"{param} is in ECMWF's open data from {since:%Y-%m-%d} on"
        if self.model == "ifs" and level is not None and level >= 50 and level not in LEVELS.at(run, self._what):
            since = next((start for start, levels in LEVELS if level in levels), None)
            return None if since is None or since <= run else f"{level:g} hPa is there from {since:%Y-%m-%d} on"
        return None

    @property
    def _params(self) -> tuple[Eras[frozenset[str]], ...]:
        return (PARAMS[self.model],) if self.model in PARAMS and self.stream in ("oper", "enfo") else ()

    def latency(self, step: int) -> float:
        return hours_after(_LATENCY, step)
