"""Weather that looks like weather: moving waves with noise, from a seed."""

from dataclasses import dataclass, replace

import numpy as np

from tasks.checks.check import Subject


@dataclass(frozen=True)
class Kind:
    """A parameter to imitate: mean, difference from pole to equator, amplitude of the waves."""

    name: str
    units: str
    mean: float
    slope: float
    amplitude: float
    window: str = "instant"


KINDS = (
    Kind("2t", "K", 270.0, 30.0, 8.0),
    Kind("msl", "Pa", 101000.0, 0.0, 1500.0),
    Kind("10u", "m s**-1", 0.0, 3.0, 9.0),
    Kind("tcc", "%", 30.0, 0.0, 60.0),
    Kind("sst", "K", 280.0, 20.0, 1.0),
    Kind("tp", "m", 0.0, 0.0, 0.004, "accum"),
    Kind("ssrd", "J m**-2", 0.0, 0.0, 3e6, "accum"),
    Kind("swh", "m", 3.0, 0.0, 1.5),
    Kind("unheard_of", "furlong", 5.0, 2.0, 1.0),
)
NAMES = tuple(kind.name for kind in KINDS)


def subject(
    name: str = "2t",
    *,
    seed: int = 0,
    steps: int = 9,
    members: int | None = 3,
    levels: tuple[float, ...] | None = None,
    shape: tuple[int, int] = (24, 48),
    every: int = 6,
) -> Subject:
    """A clean subject; ``members`` and ``levels`` None leave the dimension out. Values as GRIB packs them."""
    kind = next(k for k in KINDS if k.name == name) if name in NAMES else Kind(name, "K", 230.0, 15.0, 8.0)
    rng = np.random.default_rng(seed)
    latitude = np.linspace(80.0, -80.0, shape[0])
    longitude = np.arange(shape[1]) * (360.0 / shape[1])
    times, many, deep = steps, members or 1, len(levels or (0,))
    # Wave number, phase, speed in radians per hour, amplitude.
    low, high = (1.0, 0.0, 0.02, 0.5), (4.0, 6.3, 0.06, 1.5)
    waves = [(round(k), p, w, a) for k, p, w, a in rng.uniform(low, high, (4, 4)).tolist()]
    x, y = np.radians(longitude)[None, :], np.radians(latitude)[:, None]
    values = np.empty((times, many, deep, *shape), np.float32)
    for time in range(times):
        for member in range(many):
            for level in range(deep):
                phase = 0.05 * member * time + 0.4 * level + rng.normal(0, 0.01)
                sky = sum(
                    a * np.sin(k * x + p + phase + w * every * time) * np.cos(2 * y + p) for k, p, w, a in waves
                ) / len(waves)
                values[time, member, level] = kind.mean + kind.slope * np.cos(y) + kind.amplitude * sky
    values += (0.02 * kind.amplitude * rng.standard_normal(values.shape)).astype("float32")
    if name in ("tcc", "swh"):
        values = np.clip(values, 0.0, 100.0)
    if kind.window == "accum":
        values = np.cumsum(np.maximum(values, 0.0), axis=0, dtype="float32")
        values[0] = 0.0
    values = packed(values)
    if name in ("sst", "swh"):
        values[..., :4, :10] = np.nan
    return Subject(
        name=name,
        units=kind.units,
        window=kind.window,
        values=values,
        present=np.ones(values.shape[:3], bool),
        lead_time=np.arange(times) * every,
        member=None if members is None else np.arange(members),
        level=None if levels is None else np.asarray(levels),
        latitude=latitude,
        longitude=longitude,
    )


def packed(values: np.ndarray, bits: int = 16) -> np.ndarray:
    """Values after GRIB simple packing (WMO GRIB2 template 5.0) of each field with this many bits."""
    low = values.min(axis=(-2, -1), keepdims=True)
    scale = (values.max(axis=(-2, -1), keepdims=True) - low) / (2**bits - 1)
    scale = np.where(scale > 0, scale, 1.0)
    return (low + np.round((values - low) / scale) * scale).astype("float32")


def defect(clean: Subject, **changes: object) -> Subject:
    """A copy with its own values to spoil, and with these parts replaced."""
    return replace(clean, **{"values": clean.values.copy(), "present": clean.present.copy(), **changes})  # type: ignore[arg-type]
