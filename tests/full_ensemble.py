"""A full-size ENS run at the provider: the indexes as ECMWF writes them, the GRIB files sparse and of real size."""

import random
from datetime import datetime
from pathlib import Path

import orjson

from tasks.forecasts.message import without_data
from tasks.forecasts.sources.ecmwf import LEVELS, Ecmwf

from .forecasts.encoding import encode, field

UPPER = ("gh", "t", "u", "v", "q", "r", "w", "d", "vo")
SURFACE = (
    "10u", "10v", "2t", "2d", "sp", "msl", "tcwv", "skt", "tp", "ro", "sf", "ssr", "str", "ssrd", "strd", "ttr", "ewss",
    "nsss", "100u", "100v", "tcc", "sithick", "svn", "sve", "zos", "lsm", "asn", "mucape", "ptype", "tprate", "sd",
    "slt", "vegt", "iews", "inss", "blh", "cape", "cin", "fzra", "hcc", "lcc", "mcc", "vis",
)  # fmt: skip
"""43 params of one level each: with 9 on 13 levels, 160 fields a step and member."""

LENGTH = 620_000
"""Bytes of a message, about as much as a CCSDS-packed 0.25-degree field takes."""

MEMBERS = tuple(range(51))


def write(
    folder: Path, run: datetime, steps: tuple[int, ...], members: tuple[int, ...] = MEMBERS, length: int = LENGTH
) -> int:
    """Write the indexes and sparse GRIB files of these steps below ``folder``; the number of fields.

    Since cycle 50r1 the control lies in the oper stream. Lines are in random order, as the provider's are. Every
    message (of ``length`` bytes) of the last step - in small files, of all - begins with a real header, for what is
    learnt from headers.
    """
    source = Ecmwf(stream="enfo")
    levels = [int(v) for v in LEVELS.at(run, "levels")]
    kinds = [("pl", param, level) for param in UPPER for level in levels] + [("sfc", p, None) for p in SURFACE]
    header = without_data(encode(field()))
    assert header is not None
    rng = random.Random(1)
    total = 0
    for step in steps:
        files = source.files("", run, step)
        for file in files:
            mine = [m for m in members if len(files) == 1 or (m == 0) == (file.member == 0)]
            if not mine:
                continue
            stream = "oper" if file.member == 0 else "enfo"
            fields = [(member, *k) for member in mine for k in kinds]
            rng.shuffle(fields)
            lines = []
            for number, (member, levtype, param, level) in enumerate(fields):
                of_member = f'"number": "{member}", ' if member else ""
                kind = "pf" if member else "fc" if file.member == 0 else "cf"
                at_level = "" if level is None else f'"levelist": "{level}", '
                lines.append(
                    f'{{"domain": "g", "date": "{run:%Y%m%d}", "time": "{run:%H%M}", "expver": "0001", "class": "od", '
                    f'"type": "{kind}", "stream": "{stream}", {of_member}"step": "{step}", {at_level}"levtype": '
                    f'"{levtype}", "param": "{param}", "_offset": {number * length}, "_length": {length}}}'
                )
            path = folder / file.url
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as grib:
                grib.truncate(len(fields) * length)
                if step == steps[-1] or length < LENGTH:
                    for number in range(len(fields)):
                        grib.seek(number * length)
                        # The length in section 0 is that of the whole message, as a real file has it.
                        grib.write(header[:8] + length.to_bytes(8, "big") + header[16:])
            (folder / str(file.index_url)).write_text("\n".join(lines) + "\n")
            total += len(fields)
    return total


def recipe(endpoint: str, run: datetime, bucket: str = "ecmwf-forecasts") -> bytes:
    """A recipe for all of it, read from an S3 server, as JSON (which is YAML)."""
    levels = [int(v) for v in LEVELS.at(run, "levels")]
    upper = [{"name": p, "param": p, "level_type": "isobaricInhPa", "levels": levels} for p in UPPER]
    surface = [{"name": f"v{p}" if p[0].isdigit() else p, "param": p, "level_type": "sfc"} for p in SURFACE]
    return orjson.dumps(
        {
            "name": "ens", "kind": "forecast",
            "source": {
                "type": "ecmwf", "stream": "enfo",
                "mirrors": [f"s3://{bucket}?endpoint={endpoint}&region=eu-central-1&anonymous=true"],
            },
            "runs": {"start": f"{run:%Y-%m-%dT%H}:00:00Z", "every": 12, "default": f"{run:%Y-%m-%dT%H}"},
            "select": {"members": list(MEMBERS), "variables": upper + surface},
        }
    )  # fmt: skip
