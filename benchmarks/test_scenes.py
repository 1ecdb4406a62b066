"""Scenes: against ``eopf-geozarr convert`` on the same item, and how time grows with the size of the item."""

import os
import shutil
from pathlib import Path

import pytest

from tests.scenes import eopf

from .scene_run import measured, weatherlake

SIDE = int(os.environ.get("WEATHERLAKE_SCENE_SIDE", "5490"))
"""Pixels at 10 m of the item that both convert; 10980 is a real product."""


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> eopf.Product:
    """A product with the reflectances only: what both programs convert when asked for these groups."""
    return eopf.write(tmp_path_factory.mktemp("item"), SIDE, groups=eopf.REFLECTANCE)


def test_against_eopf_geozarr(benchmark, item: eopf.Product, tmp_path: Path):
    """The same groups, decoded to float32, overviews by 2 to 256 pixels; no tar, for the other makes none.

    Time is that of the whole process, imports and (of ours alone) validation included.
    """
    program = os.environ.get("WEATHERLAKE_EOPF_GEOZARR") or shutil.which("eopf-geozarr")
    if not program:
        pytest.skip("eopf-geozarr is not installed; WEATHERLAKE_EOPF_GEOZARR may name the program")
    groups = [f"/{g}" for g in eopf.REFLECTANCE]
    theirs = [program, "convert", str(item.store), str(tmp_path / "theirs.zarr"), "--no-s2-optimized", "--groups"]
    other = measured([*theirs, *groups])
    found = []

    def once() -> None:
        settings = ("layout.values=decoded", "outputs.tar=false")
        found.append(measured(weatherlake(item.item, tmp_path / f"lake-{len(found)}", groups, *settings)))

    benchmark.pedantic(once, rounds=1, iterations=1)
    ours = found[0]
    rows = [
        {"side (pixels)": SIDE, "program": name, "seconds": cost.seconds, "CPU s": cost.cpu,
         "peak memory (MB)": round(cost.peak / 1e6), "times faster": other.seconds / cost.seconds,
         "share of memory": cost.peak / other.peak}
        for name, cost in (("eopf-geozarr convert", other), ("weatherlake, all five phases", ours))
    ]  # fmt: skip
    benchmark.extra_info.update({"table": "scenes", "rows": rows})


@pytest.mark.parametrize("side", [1830, 5490, 10980])
def test_growth(benchmark, side: int, tmp_path: Path):
    """Packed as the source, all three resolutions and the classes, with the tar: the recipe as it is."""
    product = eopf.write(tmp_path, side, groups=(*eopf.REFLECTANCE, eopf.SCL), smooth=side > 5490)
    found = []

    def once() -> None:
        groups = [*eopf.REFLECTANCE, eopf.SCL]
        found.append(measured(weatherlake(product.item, tmp_path / f"lake-{len(found)}", groups)))

    benchmark.pedantic(once, rounds=1, iterations=1)
    cost = found[0]
    pixels = sum((side * 10 // r) ** 2 * len(eopf.BANDS[f"r{r}m"]) for r in (10, 20, 60)) + (side // 2) ** 2
    row = {
        "side (pixels)": side, "million pixels": pixels / 1e6, "seconds": cost.seconds, "CPU s": cost.cpu,
        "million pixels/s": pixels / 1e6 / cost.seconds, "peak memory (MB)": round(cost.peak / 1e6),
    }  # fmt: skip
    benchmark.extra_info.update({"table": "scene-sizes", "rows": [row]})
