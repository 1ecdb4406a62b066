"""Names by product: what is remembered is what ecCodes says of each message."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.forecasts import decode_eccodes, product
from tasks.forecasts.message import cut, walk
from tasks.lake.errors import LakeError

from .encoding import encode, field

SHORT_NAMES = ("2t", "tp", "10u", "msl", "mx2t3", "mx2t6", "gh")


@given(st.sampled_from(SHORT_NAMES), st.integers(0, 240), st.integers(0, 3))
def test_a_header_is_the_same_with_and_without_what_is_remembered(name: str, step: int, member: int) -> None:
    made = _message(name, step, member)
    # A handle each: reading a header changes the units of the handle's steps, and names hang on those.
    with decode_eccodes.opened(made) as handle, decode_eccodes.opened(made) as other:
        assert decode_eccodes.header(handle, product.of(made)) == decode_eccodes.header(other)


def test_run_lead_time_and_member_make_no_other_product() -> None:
    assert product.of(_message("2t", 6, 1)) == product.of(_message("2t", 240, 3))
    assert product.of(_message("2t", 6, 1)) != product.of(_message("msl", 6, 1))
    # The maximum of three hours and of six have names of their own.
    assert product.of(_message("mx2t3", 6, 1)) != product.of(_message("mx2t6", 6, 1))


def _message(name: str, step: int, member: int) -> bytes:
    keys: dict[str, Any] = {"centre": "ecmf", "productDefinitionTemplateNumber": 1, "shortName": name}
    length = {"tp": step, "mx2t3": 3, "mx2t6": 6}.get(name)
    if length is not None:
        keys["productDefinitionTemplateNumber"] = 11
        step = max(step, length)
    keys |= {"stepRange": step if length is None else f"{step - length}-{step}", "perturbationNumber": member}
    if name == "gh":
        keys |= {"typeOfLevel": "isobaricInhPa", "level": 500}
    return encode(field(), **keys)


@pytest.mark.real
def test_names_of_every_real_message_are_its_own(shared: Path) -> None:
    compared = 0
    for path in sorted((shared / "data").rglob("*")):
        if path.suffix not in (".grib2", ".grib") and "pgrb2" not in path.name:
            continue
        data = path.read_bytes()
        at = data.find(b"GRIB")
        while 0 <= at < len(data) and compared < 400:
            found = walk(data, at)
            single = bytes(cut(data[at : at + found.length], 0))
            with decode_eccodes.opened(single) as handle, decode_eccodes.opened(single) as other:
                try:
                    plain = decode_eccodes.header(other)
                except LakeError as error:
                    with pytest.raises(type(error)):
                        decode_eccodes.header(handle, product.of(single))
                else:
                    assert decode_eccodes.header(handle, product.of(single)) == plain, path
            compared += 1
            at = data.find(b"GRIB", at + found.length)
    assert compared > 50
