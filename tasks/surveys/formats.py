"""Formats of granules: what a name says, what the first bytes say, and which backend opens it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

Family = Literal["tiff", "netcdf", "hdf", "zarr"]
"""What opens it: rasterio for TIFF, xarray for the others (``hdf`` may turn out to be HDF4, which nothing opens)."""

EXTENSIONS: Mapping[str, Family] = {
    "tif": "tiff",
    "tiff": "tiff",
    "cog": "tiff",
    "nc": "netcdf",
    "nc3": "netcdf",
    "nc4": "netcdf",
    "ncf": "netcdf",
    "h5": "hdf",
    "hdf5": "hdf",
    "he5": "hdf",
    "hdf": "hdf",
    "zarr": "zarr",
}

DECLARED: Mapping[str, Family] = {
    "cog": "tiff",
    "geotiff": "tiff",
    "cloud-optimized geotiff": "tiff",
    "cloud optimized geotiff": "tiff",
    "cloud optimized geotiff (cog)": "tiff",
    "tiff": "tiff",
    "netcdf": "netcdf",
    "netcdf-3": "netcdf",
    "netcdf-4": "netcdf",
    "netcdf4": "netcdf",
    "netcdf-4 classic": "netcdf",
    "netcdf-cf": "netcdf",
    "hdf5": "hdf",
    "hdf-5": "hdf",
    "hdf-eos5": "hdf",
    "zarr": "zarr",
}
"""Words of the catalogue for a format, for links whose name has no extension."""

_MAGIC: tuple[tuple[bytes, str, Family | None], ...] = (
    (b"II*\0", "TIFF", "tiff"),
    (b"MM\0*", "TIFF", "tiff"),
    (b"II+\0", "BigTIFF", "tiff"),
    (b"MM\0+", "BigTIFF", "tiff"),
    (b"CDF\x01", "NetCDF-3", "netcdf"),
    (b"CDF\x02", "NetCDF-3", "netcdf"),
    (b"CDF\x05", "NetCDF-3", "netcdf"),
    (b"\x89HDF\r\n\x1a\n", "HDF5", "hdf"),
    (b"\x0e\x03\x13\x01", "HDF4", None),
    (b"GRIB", "GRIB", None),
    (b"PK\x03\x04", "ZIP", None),
    (b"\x1f\x8b", "gzip", None),
    (b"BZh", "bzip2", None),
    (b"%PDF", "PDF", None),
    (b"\x89PNG", "PNG", None),
    (b"\xff\xd8\xff", "JPEG", None),
    (b"<?xml", "XML", None),
    (b"<!doctype html", "HTML", None),
    (b"<html", "HTML", None),
)

_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a granule's data, and what it seems to be."""

    url: str
    extension: str
    family: Family | None


def extension(url: str) -> str:
    """Last part of a file's name, lower case and without the dot; '' where it has none."""
    name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    stem, dot, last = name.rpartition(".")
    return last.lower() if dot and stem and len(last) <= 8 else ""


def link(url: str, declared: str | None) -> Link:
    """What a link seems to be: its extension says so, or else the catalogue's word."""
    name = extension(url)
    family = EXTENSIONS.get(name)
    if family is None and (not name or name.isdigit()) and declared:
        family = DECLARED.get(declared.strip().lower())
    return Link(url, name, family)


def choose(links: Sequence[str], declared: str | None, access: str) -> Link | None:
    """The link that is looked at: the first one of a format that can be opened, by the wanted access if there is one.

    ``access`` is ``s3`` or ``https``. None when there is no link of either kind.
    """
    usable = [link(u, declared) for u in links if u.startswith(("s3://", "https://", "http://"))]
    wanted = [u for u in usable if u.url.startswith("s3://") == (access == "s3")]
    for some in (wanted, usable):
        if known := next((u for u in some if u.family), None):
            return known
    return next(iter([*wanted, *usable]), None)


def content(head: bytes) -> tuple[str, Family | None]:
    """What the first bytes of a file say it is (its name for people), and the family that opens it."""
    lower = head.lstrip().lower()
    for magic, name, family in _MAGIC:
        if head.startswith(magic) or (magic.startswith(b"<") and lower.startswith(magic)):
            return name, family
    # An HDF5 file may begin with a block of its user's: 512 bytes, or a power of two times that.
    for offset in (512, 1024, 2048):
        if head[offset : offset + 8] == _HDF5:
            return "HDF5", "hdf"
    if not head:
        return "nothing", None
    text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head[:256])
    return ("text" if text else "unknown bytes"), None


def agrees(named: Family, found: Family | None) -> bool:
    """Whether a file is what its name says. NetCDF-4 is HDF5, so those two may stand for each other."""
    return named == found or {named, found} <= {"netcdf", "hdf"}
