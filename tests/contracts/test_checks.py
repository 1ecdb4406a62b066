"""What every registered check must keep to, whatever it is given."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.checks.check import Check, Finding, Subject, checks
from tasks.lake.errors import RecipeError
from tests.checks.synthetic import NAMES, defect, subject

ALL = list(checks)


def spoiled(fill: float, **changes: object) -> Subject:
    thing = defect(subject("2t", seed=1), **changes)
    thing.values[:] = fill
    return thing


def single(axis: int) -> Subject:
    """A subject of length 1 along lead_time, member or level."""
    whole = subject("t", levels=(1000.0, 500.0))
    keep = tuple(slice(0, 1) if at == axis else slice(None) for at in range(3))
    names = ("lead_time", "member", "level")
    values, present = whole.values[keep], whole.present[keep]
    return replace(whole, values=values, present=present, **{names[axis]: getattr(whole, names[axis])[:1]})


def mixed() -> Subject:
    thing = defect(subject("tp"))
    thing.values[1, 0, 0, 3] = np.inf
    thing.values[2, 1, 0, 4] = -np.inf
    thing.values[3, 1, 0, :, 5] = np.nan
    thing.values[4, 2, 0, 6, 6] = np.finfo("float32").max
    thing.values[5, 2, 0, 6, 6] = -np.finfo("float32").max
    thing.present[6] = False
    return thing


HARD = {
    "all NaN": lambda: spoiled(np.nan),
    "all inf": lambda: spoiled(np.inf),
    "all -inf": lambda: spoiled(-np.inf),
    "constant": lambda: spoiled(280.0),
    "zero": lambda: spoiled(0.0),
    "huge": lambda: spoiled(3.4e38),
    "mixed": mixed,
    "rain of inf": lambda: spoiled(np.inf, name="tp", window="accum", units="m"),
    "unknown of inf": lambda: spoiled(np.inf, name="unheard_of", units=""),
    "single step": lambda: single(0),
    "single member": lambda: single(1),
    "single level": lambda: single(2),
    "nothing there": lambda: replace(subject(), present=np.zeros((9, 3, 1), bool)),
    "one point": lambda: subject("2t", shape=(1, 1)),
    "one row": lambda: subject("2t", shape=(1, 48)),
    "one column": lambda: subject("2t", shape=(24, 1)),
    "no units": lambda: replace(subject("2t"), units=""),
    "strange units": lambda: replace(subject("2t"), units="parsec"),
    "steps out of order": lambda: replace(subject("2t"), lead_time=np.arange(9)[::-1] * 6),
    "same step": lambda: replace(subject("2t"), lead_time=np.zeros(9, int)),
    "read only, not contiguous": lambda: frozen(subject("2t")),
}


def frozen(thing: Subject) -> Subject:
    values = thing.values[..., ::2]
    values.flags.writeable = False
    return replace(thing, values=values, longitude=thing.longitude[::2])


def judged(check: Check, thing: Subject) -> Finding:
    """Run the check and hold it to everything a finding promises."""
    before, present = thing.values.tobytes(), thing.present.tobytes()
    found = check.run(thing)
    assert thing.values.tobytes() == before, "changed the values"
    assert thing.present.tobytes() == present, "changed what is present"
    assert isinstance(found, Finding)
    assert (found.check, found.variable, found.weight) == (check.type, thing.name, check.weight)
    assert 0.0 <= found.score <= 1.0
    assert "\n" not in found.sentence
    assert found.sentence.startswith(thing.name)
    assert found.sentence.endswith(".")
    assert not found.sentence.endswith("..")
    assert len(set(found.cells)) == len(found.cells) or len(set(thing.lead_time)) < len(thing.lead_time)
    if found.cells or found.fatal:
        assert found.score < 1.0
    assert check.run(thing) == found, "is not deterministic"
    return found


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("name", ALL)
def test_hard_cases_raise_nothing(name: str, case: str) -> None:
    judged(checks.build(name), HARD[case]())


@pytest.mark.parametrize("variable", NAMES)
@pytest.mark.parametrize("name", ALL)
def test_clean_data_are_faultless(name: str, variable: str) -> None:
    assert judged(checks.build(name), subject(variable, seed=5)).score == 1.0


@pytest.mark.parametrize("name", ALL)
def test_documents_itself_and_refuses_unknown_keys(name: str) -> None:
    cls = checks[name]
    assert cls.__doc__
    assert cls.__doc__ != Check.__doc__
    assert cls.model_fields["type"].default == name
    assert checks.build({"type": name, "weight": 0.5}).weight == 0.5
    with pytest.raises(ValueError, match="no_such_key"):
        checks.build({"type": name, "no_such_key": 1})


def test_an_unknown_check_is_named() -> None:
    with pytest.raises(RecipeError, match=r"no check named 'rnage'.*range"):
        checks.build("rnage")


def spoil_somewhere(seed: int) -> Subject:
    """An ensemble with one defect of some kind somewhere."""
    rng = np.random.default_rng(seed)
    thing = defect(subject("tp" if seed % 2 else "2t", seed=seed, members=4))
    time, member = int(rng.integers(1, 9)), int(rng.integers(0, 4))
    field = thing.values[time, member, 0]
    kind = seed % 5
    if kind == 0:
        field[:] *= 0.3
    elif kind == 1:
        field[3, 4] = 900.0
    elif kind == 2:
        field[2:5] = np.nan
    elif kind == 3:
        field[:] = thing.values[time - 1, member, 0]
    else:
        thing.present[time, member] = False
    return thing


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(4)))
@pytest.mark.parametrize("name", ALL)
def test_the_order_of_members_does_not_matter(name: str, seed: int, order: list[int]) -> None:
    thing = spoil_somewhere(seed)
    assert thing.member is not None
    shuffled = replace(
        thing, values=thing.values[:, order], present=thing.present[:, order], member=thing.member[list(order)]
    )
    check = checks.build(name)
    one, other = judged(check, thing), judged(check, shuffled)
    assert (one.score, one.fatal, set(one.cells)) == (other.score, other.fatal, set(other.cells))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("name", ALL)
def test_a_map_upside_down_is_judged_the_same(name: str, seed: int) -> None:
    thing = spoil_somewhere(seed)
    turned = replace(thing, values=thing.values[..., ::-1, :], latitude=thing.latitude[::-1])
    check = checks.build(name)
    one, other = check.run(thing), check.run(turned)
    assert (one.score, one.fatal, one.cells) == (other.score, other.fatal, other.cells)


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=60),
    there=st.integers(0, 255),
    variable=st.sampled_from(NAMES),
)
@pytest.mark.parametrize("name", ALL)
def test_any_float_is_judged(name: str, values: list[float], there: int, variable: str) -> None:
    model = subject(variable, steps=4, members=2, shape=(9, 8))
    flat = np.resize(np.asarray(values, "float32"), model.values.shape)
    present = np.array([bool(there >> bit & 1) for bit in range(8)]).reshape(4, 2, 1)
    judged(checks.build(name), replace(model, values=flat, present=present))
