"""The exporter ``grib``: which messages it takes, in which order, into which files."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.exports.exporter import exporters
from tasks.lake.errors import UsageError
from tests.exports.runs import MadeRuns

_FIELDS = (("v10", None, 1), ("u10", None, 0), ("t2m", 2.0, 0), ("t", 850.0, 0), ("t", 500.0, 0))


class Messages(MadeRuns):
    """A manifest whose messages are their own description: ``t2m 6 m1;``."""

    def __init__(self, members: bool = True) -> None:
        super().__init__([])
        rows = [
            (name, level, member, step, sub)
            for step in (6, 0)
            for member in ((1, 0) if members else (None,))
            for name, level, sub in (
                ("v10", None, 1),
                ("u10", None, 0),
                ("t2m", 2.0, 0),
                ("t", 850.0, 0),
                ("t", 500.0, 0),
            )
        ]
        # Both winds in one message, as NCEP had them.
        place = {row: n if row[0] != "v10" else n + 1 for n, row in enumerate(rows)}
        self.texts = [
            f"{name.replace('v10', 'u10')} {level} {step} m{member};" for name, level, member, step, _ in rows
        ]
        self.table = pa.table(
            {
                "variable": pa.array([r[0] for r in rows]).dictionary_encode(),
                "level": pa.array([r[1] for r in rows], pa.float64()),
                "member": pa.array([r[2] for r in rows], pa.int16()),
                "lead_time": pa.array([timedelta(hours=r[3]) for r in rows], pa.duration("s")),
                "url": pa.array(["lake/file"] * len(rows)).dictionary_encode(),
                "offset": pa.array([place[r] for r in rows], pa.int64()),
                "sub": pa.array([r[4] for r in rows], pa.int16()),
            }
        )

    def manifest(self) -> Any:
        return self.table

    def messages(self, rows: Any) -> Iterator[bytes]:
        for offset in rows["offset"].to_pylist():
            yield self.texts[offset].encode()


def export(folder: Path, source: Messages | None = None, **fields: object) -> dict[str, list[str]]:
    exporter = exporters.build({"type": "grib", "name": "g"} | fields)
    paths = exporter.write(source or Messages(), folder)
    return {p.name: p.read_text().split(";")[:-1] for p in paths}


def test_messages_are_in_order_and_each_is_there_once(tmp_path: Path):
    (found,) = export(tmp_path).values()
    assert found[:4] == ["t 500.0 0 m0", "t 500.0 0 m1", "t 850.0 0 m0", "t 850.0 0 m1"]
    assert found[4:8] == ["t2m 2.0 0 m0", "t2m 2.0 0 m1", "u10 None 0 m0", "u10 None 0 m1"]
    assert len(found) == 16
    assert len(set(found)) == 16


def test_what_is_chosen(tmp_path: Path):
    found = export(tmp_path, variables=["t", "t2m"], steps=[6], members=[1], levels=[850])
    assert found == {"g.grib2": ["t 850.0 6 m1", "t2m 2.0 6 m1"]}


@pytest.mark.parametrize(("split", "names"), [
    ("step", ["g-000.grib2", "g-006.grib2"]),
    ("member", ["g-m00.grib2", "g-m01.grib2"]),
    ("variable", ["g-t.grib2", "g-t2m.grib2"]),
])  # fmt: skip
def test_split(tmp_path: Path, split: str, names: list[str]):
    found = export(tmp_path, split=split, variables=["t", "t2m"])
    assert sorted(found) == names
    assert sum(map(len, found.values())) == 12


@pytest.mark.parametrize(("fields", "sentence"), [
    ({"variables": ["nosuch"]}, "no message of variable 'nosuch': expected t, t2m, u10, v10"),
    ({"steps": [3]}, "no message of step 3: expected 0, 6"),
    ({"members": [9]}, "no message of member 9: expected 0, 1"),
    ({"variables": ["t"], "levels": [10]}, "no message of level 10.0: expected 500.0, 850.0"),
])  # fmt: skip
def test_what_is_not_there_is_one_sentence(tmp_path: Path, fields: dict, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        export(tmp_path, **fields)
    assert not list(tmp_path.iterdir())


def test_a_single_run_has_no_members_to_split_by(tmp_path: Path):
    with pytest.raises(UsageError, match="no members to split by"):
        export(tmp_path, Messages(members=False), split="member")
    assert len(export(tmp_path, Messages(members=False))["g.grib2"]) == 8
