"""A plain folder of GRIB files, local or on a server: archives copied elsewhere."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow as pa
from pydantic import ConfigDict, Field, field_validator, model_validator

from ...lake.errors import UsageError
from ..ecmwf_index import read_ecmwf
from ..noaa_index import read_noaa
from .source import Source, SourceFile, sources

_SAMPLE = datetime(2024, 1, 2, 3, tzinfo=UTC)


@sources.register("folder")
class Folder(Source):
    """GRIB files below a root, named by a pattern, with indexes beside them or without.

    Every run has the same steps and members. With ``{member}`` in the pattern there is a file per member;
    without, the index (or the file) tells the members apart.
    """

    # Keys of the recipe are called like methods of every source, so their fields need other names.
    model_config = ConfigDict(populate_by_name=True)

    type: Literal["folder"] = "folder"
    root: str = Field(min_length=1, description="A path, or a file://, http(s):// or s3:// URL.")
    pattern: str = Field(
        description="Key of a file below the root in Python's format syntax, of {init}, {step} and {member}: "
        "'{init:%Y%m%d%H}0000-{step}h-enfo-ef.grib2'."
    )
    index: Literal["ecmwf", "noaa", "none"] = Field(default="none", description="none: the files are scanned.")
    index_suffix: str | None = Field(
        default=None,
        pattern=r"^\.[^/]+$",
        description="How an index is called: .index in place of the file's suffix (ecmwf), .idx after it (noaa).",
    )
    lead_times: tuple[int, ...] = Field(alias="steps", min_length=1, description="Steps of every run, in hours.")
    ensemble: tuple[int, ...] | None = Field(
        default=None, alias="members", min_length=1, description="Members of every run (0 is the control)."
    )
    delay: float = Field(default=0.0, ge=0, description="Hours after the initialisation time at which a run is there.")

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return value if "://" in value else Path(value).expanduser().absolute().as_uri()

    @field_validator("lead_times", "ensemble")
    @classmethod
    def _sorted(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if min(value) < 0 or len(set(value)) != len(value):
            raise ValueError("must be distinct and not negative")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _names_files(self) -> "Folder":
        try:
            names = [self._key(_SAMPLE, step, 0) for step in self.lead_times]
        except (LookupError, ValueError, AttributeError) as error:
            fields = "{init}, {step} and {member}"
            raise ValueError(f"pattern {self.pattern!r} is not made of {fields} ({error})") from None
        if names[0].startswith("/") or ".." in names[0].split("/"):
            raise ValueError(f"pattern {self.pattern!r} leads out of the root")
        if self.index != "none" and len(set(names)) < len(names):
            raise ValueError(f"pattern {self.pattern!r} names the same file at several steps; it needs a {{step}}")
        if self.ensemble is None and self._per_member:
            raise ValueError(f"pattern {self.pattern!r} has a {{member}}; name the 'members' too")
        if self.index == "none" and self.index_suffix is not None:
            raise ValueError("index_suffix needs an 'index' of ecmwf or noaa")
        return self

    def roots(self) -> tuple[str, ...]:
        return (self.root,)

    def steps(self, run: datetime) -> tuple[int, ...]:
        del run
        return self.lead_times

    def members(self, run: datetime) -> tuple[int, ...] | None:
        del run
        return self.ensemble

    def files(self, root: str, run: datetime, step: int) -> Sequence[SourceFile]:
        del root
        if step not in self.lead_times:
            raise UsageError(f"the folder has no step {step}", expected=f"one of {self.lead_times}", found=step)
        members = self.ensemble if self.ensemble is not None and self._per_member else (None,)
        keys = [(self._key(run, step, member), member) for member in members]
        return [SourceFile(key, self._index_key(key), step, member) for key, member in keys]

    def parse(self, file: SourceFile, run: datetime, index: bytes, size: int | None) -> pa.Table:
        where = file.index_url or file.url
        if self.index == "noaa":
            return read_noaa(index, url=file.url, where=where, run=run, step=file.step, member=file.member, size=size)
        # A single run's rows (type fc) in an archive of an ensemble are its control, as with ECMWF since 50r1.
        member = 0 if file.member is None and self.ensemble is not None else file.member
        return read_ecmwf(index, url=file.url, where=where, run=run, step=file.step, member=member, size=size)

    def latency(self, step: int) -> float:
        del step
        return self.delay

    @property
    def _per_member(self) -> bool:
        return self._key(_SAMPLE, 0, 0) != self._key(_SAMPLE, 0, 1)

    def _key(self, run: datetime, step: int, member: int | None) -> str:
        return self.pattern.format(init=run, step=step, member=member)

    def _index_key(self, key: str) -> str | None:
        if self.index == "none":
            return None
        if self.index == "ecmwf":
            return str(PurePosixPath(key).with_suffix(self.index_suffix or ".index"))
        return key + (self.index_suffix or ".idx")
