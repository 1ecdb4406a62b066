"""Sampling, formats and redaction: pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.surveys.formats import agrees, choose, content, extension, link
from tasks.surveys.redact import redact
from tasks.surveys.sampling import jump, place


@pytest.mark.parametrize(
    ("key", "buckets", "found"),
    # From the test of Google's Guava (Hashing.consistentHash), which is the same algorithm.
    [(10863919174838991, 11, 6), (2016238256797177309, 11, 3), (1673758223894951030, 11, 5), (2, 100001, 80343),
     (2201, 100001, 22152), (2202, 100001, 15018)],
)  # fmt: skip
def test_jump_hash_against_another_implementation(key: int, buckets: int, found: int) -> None:
    assert jump(key, buckets) == found


@given(st.text(min_size=1), st.integers(), st.integers(1, 10_000))
def test_one_more_granule_moves_the_sample_to_it_or_not_at_all(collection: str, seed: int, count: int) -> None:
    before, after = place(collection, seed, count), place(collection, seed, count + 1)
    assert 0 <= before < count
    assert after in (before, count)


def test_samples_are_spread_evenly() -> None:
    counts = [0] * 10
    for i in range(5000):
        counts[place(f"C{i}-POCLOUD", 1, 10)] += 1
    assert min(counts) > 400


@pytest.mark.parametrize(
    ("url", "name", "family"),
    [
        ("https://h/a/b.nc", "nc", "netcdf"),
        ("s3://bucket/A.NC4", "nc4", "netcdf"),
        ("https://h/a.tif?sig=x.zip", "tif", "tiff"),
        ("https://h/a.zarr/", "zarr", "zarr"),
        ("https://h/a.he5", "he5", "hdf"),
        ("https://h/a.nc.gz", "gz", None),
        ("https://h/a.nc.md5", "md5", None),
        ("https://h/.nc", "", None),
        ("https://h/product", "", None),
    ],
)
def test_what_a_name_says(url: str, name: str, family: str | None) -> None:
    assert extension(url) == name
    assert link(url, None).family == family


def test_the_catalogues_word_counts_where_the_name_says_nothing() -> None:
    assert link("https://h/product", "netCDF-4").family == "netcdf"
    assert link("https://h/product.v2.001", "HDF-EOS5").family == "hdf"
    assert link("https://h/product.zip", "netCDF-4").family is None


def test_the_link_that_is_looked_at() -> None:
    links = ["https://h/a.txt", "s3://b/a.nc", "https://h/a.nc", "https://h/b.tif", "ftp://h/c.nc"]
    assert choose(links, None, "https") == link("https://h/a.nc", None)
    assert choose(links, None, "s3") == link("s3://b/a.nc", None)
    assert choose(links[:1], None, "https") == link("https://h/a.txt", None)
    # A format that can be opened counts for more than the wanted access.
    assert choose(links[:2], None, "https") == link("s3://b/a.nc", None)
    assert choose(["ftp://h/c.nc"], None, "https") is None


def test_what_the_first_bytes_say() -> None:
    assert content(b"\x89HDF\r\n\x1a\n...") == ("HDF5", "hdf")
    assert content(bytes(512) + b"\x89HDF\r\n\x1a\n") == ("HDF5", "hdf")
    assert content(b"CDF\x02") == ("NetCDF-3", "netcdf")
    assert content(b"MM\0*") == ("TIFF", "tiff")
    assert content(b"\x0e\x03\x13\x01") == ("HDF4", None)
    assert content(b"\n <!DOCTYPE html>") == ("HTML", None)
    assert content(b"time,value\n1,2\n") == ("text", None)
    assert content(b"\x01\x02\x03") == ("unknown bytes", None)
    assert content(b"") == ("nothing", None)
    assert agrees("netcdf", "hdf")
    assert not agrees("tiff", "hdf")
    assert not agrees("netcdf", None)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET https://h/a.nc?X-Amz-Signature=abcdef&b=1 failed", "GET https://h/a.nc failed"),
        ("https://me:hunter22@h/a.nc", "https://h/a.nc"),
        ("/vsicurl/https://h/a.tif?token=abcdefgh: 403", "/vsicurl/https://h/a.tif 403"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("aws_secret_access_key = abcdefgh", "aws_secret_access_key = ***"),
        ('{"sessionToken": "abcdefgh"}', '{"sessionToken": "***"}'),
        ("key AKIAIOSFODNN7EXAMPLE is not known", "key *** is not known"),
        ("it says eyJhbGciOiJI.eyJzdWIiOiIx.c2ln here", "it says *** here"),
        ("the word sesame is out", "the word *** is out"),
        ("group '/inner' is not aligned with its parents", "group '/inner' is not aligned with its parents"),
        ("expected 12 bytes at https://h/a.nc", "expected 12 bytes at https://h/a.nc"),
    ],
)
def test_secrets_are_taken_out(text: str, kept: str) -> None:
    assert redact(text, ["sesame"]) == kept
