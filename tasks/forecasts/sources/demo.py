"""Source ``demo``: a small ensemble archive made here, in the provider's own form, for trying things without a network.

Real GRIB2 (CCSDS packing, as ECMWF's) of the made-up weather in `synthetic`, with ECMWF's kind of index.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import orjson
import pyarrow as pa
from pydantic import Field

from .. import synthetic
from ..ecmwf_index import read_ecmwf
from .source import Source, SourceFile, sources

STEPS = tuple(range(0, 25, 3))
MEMBERS = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class _Product:
    """A field of the archive: names as ecCodes and the index write them, bits of its packing."""

    param: str
    levtype: str
    level: int | None
    bits: int


PRODUCTS = (
    _Product("2t", "sfc", None, 14),
    _Product("10u", "sfc", None, 12),
    _Product("10v", "sfc", None, 12),
    _Product("msl", "sfc", None, 16),
    _Product("tp", "sfc", None, 16),
    *(_Product("t", "pl", level, 14) for level in synthetic.LEVELS),
)


@sources.register("demo")
class Demo(Source):
    """A generated ensemble: 2 degrees, control and 3 members, steps 0 to 24 h by 3.

    Any run exists. The fields are made up; only their form is real.
    """

    type: Literal["demo"] = "demo"
    root: str = Field(default="", description="URL of an archive made before; the lake's own archive when absent.")

    def roots(self) -> tuple[str, ...]:
        return (self.root,) if self.root else ()

    def steps(self, run: datetime) -> tuple[int, ...]:
        del run
        return STEPS

    def members(self, run: datetime) -> tuple[int, ...] | None:
        del run
        return MEMBERS

    def files(self, root: str, run: datetime, step: int) -> Sequence[SourceFile]:
        del root
        stem = _stem(run, step)
        return (SourceFile(f"{stem}.grib2", f"{stem}.index", step),)

    def parse(self, file: SourceFile, run: datetime, index: bytes, size: int | None) -> pa.Table:
        where = file.index_url or file.url
        return read_ecmwf(index, url=file.url, where=where, run=run, step=file.step, size=size)

    def latency(self, step: int) -> float:
        del step
        return 0.0

    def generate(self, run: datetime) -> Iterator[tuple[str, bytes]]:
        return archive(run)


def archive(run: datetime) -> Iterator[tuple[str, bytes]]:
    """Every file of the demo's archive for a run (UTC), as (key, content), each index right after its GRIB file.

    The same run gives the same bytes. Total precipitation is accumulated from the start of the run and
    never decreases.
    """
    totals = [np.zeros((synthetic.LATITUDE.size, synthetic.LONGITUDE.size)) for _ in MEMBERS]
    rates: list[np.ndarray | None] = [None for _ in MEMBERS]
    for before, step in zip((0, *STEPS), STEPS, strict=False):
        rng = np.random.default_rng([int(run.timestamp()) // 3600, step])
        fields = []
        for member in MEMBERS:
            now = synthetic.weather(run, step, member)
            earlier = rates[member]
            if earlier is not None:
                metres = (earlier + now.rain) / 2 * (step - before) / 1000
                totals[member] += np.round(metres / synthetic.TP_QUANTUM) * synthetic.TP_QUANTUM
            rates[member] = now.rain
            surface = {"2t": now.t2m, "10u": now.u10, "10v": now.v10, "msl": now.msl, "tp": totals[member]}
            for product in PRODUCTS:
                values = surface[product.param] if product.level is None else now.t[product.level]
                fields.append((product, member, values))
        # A provider's files have no order anyone may rely on, so neither have these.
        data, lines = _encode(run, step, [fields[i] for i in rng.permutation(len(fields))])
        stem = _stem(run, step)
        yield f"{stem}.grib2", data
        yield f"{stem}.index", b"".join(orjson.dumps(lines[i]) + b"\n" for i in rng.permutation(len(lines)))


def _stem(run: datetime, step: int) -> str:
    return f"{run:%Y%m%d}/{run:%H}z/demo/2p0/enfo/{run:%Y%m%d%H}0000-{step}h-enfo-ef"


def _encode(
    run: datetime, step: int, fields: Sequence[tuple[_Product, int, np.ndarray]]
) -> tuple[bytes, list[dict[str, object]]]:
    """One GRIB file and the lines of its index."""
    import eccodes

    messages: list[bytes] = []
    lines: list[dict[str, object]] = []
    offset = 0
    handles = {p: _sample(run, step, p) for p in PRODUCTS}
    try:
        for product, member, values in fields:
            handle = handles[product]
            eccodes.codes_set(handle, "typeOfProcessedData", 4 if member else 3)
            eccodes.codes_set(handle, "perturbationNumber", member)
            eccodes.codes_set_values(handle, values.reshape(-1))
            message = eccodes.codes_get_message(handle)
            messages.append(message)
            lines.append(_line(run, step, product, member, offset, len(message)))
            offset += len(message)
    finally:
        for handle in handles.values():
            eccodes.codes_release(handle)
    return b"".join(messages), lines


def _sample(run: datetime, step: int, product: _Product) -> int:
    """An ecCodes handle with every key of a product set but those of the member. The caller releases it."""
    import eccodes

    accumulated = product.param == "tp"
    keys: dict[str, object] = {
        "centre": "ecmf",
        "tablesVersion": 32,
        "dataDate": int(f"{run:%Y%m%d}"),
        "dataTime": int(f"{run:%H%M}"),
        "productDefinitionTemplateNumber": 11 if accumulated else 1,
        "typeOfGeneratingProcess": 4,
        "generatingProcessIdentifier": 255,
        "typeOfEnsembleForecast": 255,
        "numberOfForecastsInEnsemble": len(MEMBERS),
        "Ni": synthetic.LONGITUDE.size,
        "Nj": synthetic.LATITUDE.size,
        "latitudeOfFirstGridPointInDegrees": 90,
        "latitudeOfLastGridPointInDegrees": -90,
        "longitudeOfFirstGridPointInDegrees": 180,
        "longitudeOfLastGridPointInDegrees": 178,
        "iDirectionIncrementInDegrees": 2,
        "jDirectionIncrementInDegrees": 2,
        "shapeOfTheEarth": 6,
        "shortName": product.param,
    }
    if product.level is not None:
        keys |= {"typeOfLevel": "isobaricInhPa", "level": product.level}
    if accumulated:
        keys |= {"stepType": "accum", "startStep": 0, "endStep": step}
    else:
        keys |= {"step": step}
    keys |= {"packingType": "grid_ccsds", "bitsPerValue": product.bits}
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    for key, value in keys.items():
        eccodes.codes_set(handle, key, value)
    return handle


def _line(run: datetime, step: int, product: _Product, member: int, offset: int, length: int) -> dict[str, object]:
    """A line as in ECMWF's index files: strings but for place and length, no number for the control."""
    line: dict[str, object] = {
        "domain": "g", "date": f"{run:%Y%m%d}", "time": f"{run:%H%M}", "expver": "0001", "class": "od",
        "type": "pf" if member else "cf", "stream": "enfo", "step": str(step), "levtype": product.levtype,
    }  # fmt: skip
    if product.level is not None:
        line["levelist"] = str(product.level)
    if member:
        line["number"] = str(member)
    return line | {"param": product.param, "_offset": offset, "_length": length}
