"""Items that several tests read; nobody changes them."""

import os
import shutil
from pathlib import Path

import pytest

from . import eopf
from .converting import convert


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> eopf.Product:
    """A small item with all groups: 366 pixels at 10 m, so 183 at 20 m and 61 at 60 m (odd sizes all the way down)."""
    return eopf.write(tmp_path_factory.mktemp("product"), 366)


@pytest.fixture(scope="session")
def converted(product: eopf.Product, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake with that item converted as the recipe says, packed."""
    lake = tmp_path_factory.mktemp("converted") / "lake"
    convert(lake, product.item)
    return lake


@pytest.fixture(scope="session")
def eopf_geozarr() -> str:
    """The program ``eopf-geozarr``; it wants another zarr than ours, so it lives in an environment of its own."""
    program = os.environ.get("WEATHERLAKE_EOPF_GEOZARR") or shutil.which("eopf-geozarr")
    if not program:
        pytest.skip("eopf-geozarr is not installed; WEATHERLAKE_EOPF_GEOZARR may name the program")
    return program
