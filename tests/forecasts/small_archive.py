"""A small ensemble in GRIB files with ECMWF's index, made to be spoiled: moving waves on a 24 x 48 grid."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import orjson
import yaml

from tasks.executor import Threads
from tasks.lake import recipe as recipes
from tasks.lake.lake import Lake
from tasks.lake.phase import Window
from tasks.plan import Options
from tasks.report import Report
from tasks.runner import run_phase

RUN = datetime(2026, 11, 20, tzinfo=UTC)
SCOPE = "2026-11-20T00"
STEPS = (0, 3, 6, 9, 12, 15)
MEMBERS = (0, 1, 2)
LEVELS = (850, 500)
ROWS, COLUMNS = 24, 48
LATITUDE = np.linspace(80.5, -80.5, ROWS)
PATTERN = "{init:%Y%m%d%H}0000-{step}h-enfo-ef.grib2"


@dataclass(frozen=True)
class Kind:
    """A parameter to imitate."""

    param: str
    units: str
    mean: float
    slope: float
    amplitude: float
    level_type: str = "sfc"
    window: str = "instant"
    not_at: tuple[int, ...] = ()
    keys: tuple[tuple[str, Any], ...] = ()


KINDS = (
    Kind("2t", "K", 250.0, 40.0, 6.0),
    Kind("msl", "Pa", 101000.0, 0.0, 1500.0),
    Kind("10u", "m s**-1", 0.0, 3.0, 9.0),
    Kind("tcc", "(0 - 1)", 0.5, 0.0, 0.25),
    Kind("tp", "m", 0.0, 0.0, 0.004, window="accum"),
    Kind("mx2t3", "K", 253.0, 40.0, 6.0, window="max", not_at=(0,)),
    Kind("mn2t3", "K", 247.0, 40.0, 6.0, window="min", not_at=(0,)),
    Kind("t", "K", 230.0, 30.0, 6.0, level_type="isobaricInhPa"),
)
NAME_OF = {"2t": "t2m", "10u": "u10", "mx2t3": "mx2t", "mn2t3": "mn2t"}
"""Parameter -> variable of the cube, where they differ."""


@dataclass
class Message:
    """One field before it is encoded, and what is to be done to it or said of it afterwards."""

    kind: Kind
    step: int
    member: int
    level: int | None
    values: np.ndarray
    header: dict[str, Any] = field(default_factory=dict)
    missing: np.ndarray | None = None
    spoil: Callable[[bytes], bytes] | None = None
    listed: bool = True

    @property
    def cell(self) -> str:
        """The cell as the verdict writes it."""
        level = "" if self.level is None else f"-l{self.level}"
        return f"{NAME_OF.get(self.kind.param, self.kind.param)}/{self.step:03d}-m{self.member:02d}{level}"


class Run:
    """The messages of one run, to be changed before they are written."""

    def __init__(self, init: datetime = RUN, seed: int = 0) -> None:
        self.init = init
        self.messages = {m.cell: m for m in _messages(init, seed)}

    def __getitem__(self, cell: str) -> Message:
        return self.messages[cell]

    def of(self, variable: str, member: int | None = None) -> list[Message]:
        """The messages of a variable (and member)."""
        found = [m for c, m in self.messages.items() if c.startswith(f"{variable}/")]
        return [m for m in found if member is None or m.member == member]

    def write(self, folder: Path, pattern: str = PATTERN, members: tuple[int, ...] = MEMBERS) -> None:
        """Write the run's files and indexes, with these members."""
        folder.mkdir(parents=True, exist_ok=True)
        for step in STEPS:
            lines, data = [], b""
            for message in self.messages.values():
                if message.step != step or message.member not in members:
                    continue
                one = encoded(message, self.init)
                if message.spoil is not None:
                    one = message.spoil(one)
                if message.listed:
                    lines.append(_line(message, self.init, len(data), len(one)))
                data += one
            name = pattern.format(init=self.init, step=step)
            (folder / name).write_bytes(data)
            (folder / name.replace(".grib2", ".index")).write_bytes(b"\n".join(lines) + b"\n")


def _messages(init: datetime, seed: int) -> Iterator[Message]:
    # Three quarters of a wave a day: runs differ, steps do too, and a later run continues an earlier one.
    start = (init - RUN) / timedelta(hours=1)
    rng = np.random.default_rng(seed)
    y, x = np.radians(LATITUDE)[:, None], np.radians(np.arange(COLUMNS) * 7.5)[None, :]
    for place, kind in enumerate(KINDS):
        # A maximum moves with what it is the maximum of.
        number = 0 if kind.window in ("max", "min") else place
        for level in LEVELS if kind.level_type != "sfc" else (None,):
            for member in MEMBERS:
                total = np.zeros((ROWS, COLUMNS))
                for step in STEPS:
                    phase = 0.05 * (start + step) + 0.06 * member + 1.3 * number + (0.4 if level == 500 else 0.0)
                    sky = np.sin(3 * x + phase) * np.cos(2 * y + 0.3 * number) + 0.5 * np.sin(2 * x - phase)
                    noise = 0.02 * rng.standard_normal(sky.shape)
                    values = kind.mean + kind.slope * np.cos(y) + 0.4 * kind.slope * np.sin(y)
                    values = values + kind.amplitude * (sky + noise)
                    if kind.window == "accum":
                        total = total + np.maximum(values, 0) * (step > 0)
                        values = total
                    if step not in kind.not_at:
                        yield Message(kind, step, member, level, values.copy())


def encoded(message: Message, init: datetime) -> bytes:
    """The message as GRIB 2."""
    kind = message.kind
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    try:
        settings: dict[str, Any] = {
            "centre": "ecmf", "dataDate": int(f"{init:%Y%m%d}"), "dataTime": init.hour * 100,
            "Ni": COLUMNS, "Nj": ROWS, "iDirectionIncrementInDegrees": 7.5,
            "jDirectionIncrementInDegrees": float(LATITUDE[0] - LATITUDE[1]),
            "latitudeOfFirstGridPointInDegrees": float(LATITUDE[0]),
            "latitudeOfLastGridPointInDegrees": float(LATITUDE[-1]),
            "longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 352.5,
            "productDefinitionTemplateNumber": 1 if kind.window == "instant" else 11,
            "shortName": kind.param, "stepRange": f"0-{message.step}" if kind.window == "accum" else message.step,
            "perturbationNumber": message.member, "numberOfForecastsInEnsemble": len(MEMBERS), "bitsPerValue": 16,
        }  # fmt: skip
        if kind.window in ("max", "min"):
            settings["stepRange"] = f"{message.step - 3}-{message.step}"
        if message.level is not None:
            settings |= {"typeOfLevel": "isobaricInhPa", "level": message.level}
        for key, value in (settings | message.header).items():
            eccodes.codes_set(handle, key, value)
        values = message.values
        if message.missing is not None:
            eccodes.codes_set(handle, "bitmapPresent", 1)
            eccodes.codes_set(handle, "missingValue", -1e30)
            values = np.where(message.missing, -1e30, values)
        eccodes.codes_set_values(handle, np.ascontiguousarray(values, float).reshape(-1))
        return eccodes.codes_get_message(handle)
    finally:
        eccodes.codes_release(handle)


def _line(message: Message, init: datetime, offset: int, length: int) -> bytes:
    row = {
        "domain": "g", "date": f"{init:%Y%m%d}", "time": f"{init:%H}00", "expver": "0001", "class": "od",
        "type": "cf" if message.member == 0 else "pf", "stream": "enfo", "step": str(message.step),
        "levtype": "pl" if message.level is not None else "sfc", "param": message.kind.param,
        "_offset": offset, "_length": length,
    }  # fmt: skip
    if message.member:
        row["number"] = str(message.member)
    if message.level is not None:
        row["levelist"] = str(message.level)
    return orjson.dumps(row)


def variables(*names: str) -> list[dict[str, Any]]:
    """The variables as a recipe says them: all, or those named."""
    out = []
    for kind in KINDS:
        if names and NAME_OF.get(kind.param, kind.param) not in names:
            continue
        entry: dict[str, Any] = {
            "name": NAME_OF.get(kind.param, kind.param), "param": kind.param, "units": kind.units,
            "not_at": list(kind.not_at),
        }  # fmt: skip
        if kind.level_type != "sfc":
            entry["levels"] = list(LEVELS)
        out.append(entry)
    return out


def document(archive: Path, **changes: Any) -> dict[str, Any]:
    """A recipe that reads an archive of these runs."""
    source = {
        "type": "folder", "root": archive.as_uri(), "pattern": PATTERN, "index": "ecmwf", "steps": list(STEPS),
        "members": list(MEMBERS),
    }  # fmt: skip
    base = {
        "name": "small", "kind": "forecast", "source": source,
        "runs": {"start": "2026-11-01T00:00:00Z", "every": 12, "default": SCOPE},
        "select": {"members": list(MEMBERS), "variables": variables()},
        "layout": {"rounding": "none"},
    }  # fmt: skip
    return base | changes


@dataclass(frozen=True)
class Place:
    """A lake with a recipe, and the phases run in threads of this process."""

    lake: Lake
    recipe: Any
    run: datetime = RUN

    @classmethod
    def of(cls, lake: Path, archive: Path, **changes: Any) -> "Place":
        return cls(Lake(str(lake)), recipes.parse(document(archive, **changes)))

    def __call__(self, *phases: str) -> list[Report]:
        """Run phases; their reports."""
        threads = Threads(2)
        try:
            return [run_phase(self.lake, self.recipe, p, Window(run=self.run), Options(), threads) for p in phases]
        finally:
            threads.close()

    def at(self, run: datetime) -> "Place":
        """The same place, another run."""
        return replace(self, run=run)

    def save(self, path: Path) -> Path:
        """The recipe as a file, for the command line."""
        path.write_text(yaml.safe_dump(self.recipe.model_dump(mode="json", by_alias=True)))
        return path
