"""Made-up weather for the demo: travelling lows with winds, fronts and rain, as a function of time.

The same lows pass whichever run looks at them, so a later run continues an earlier one; ensemble members
see them displaced and deeper or shallower, the more so the longer the forecast. Formulas are rough on
purpose: nothing here is a model, but signs, ranges and balances are those of the real thing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np

LATITUDE = np.linspace(90.0, -90.0, 91)
"""Degrees north, north to south."""

LONGITUDE = np.arange(-180.0, 180.0, 2.0)
"""Degrees east."""

LEVELS = (850, 500, 250)
"""Pressure levels of the temperature, hPa."""

TP_QUANTUM = 2.0**-16
"""Total precipitation is a multiple of this (m), which 16-bit packing keeps exactly: it never decreases."""

CONTINENTS: tuple[tuple[tuple[int, int], ...], ...] = (
    ((-168, 66), (-156, 71), (-95, 72), (-80, 63), (-78, 52), (-64, 60), (-55, 52), (-66, 44), (-81, 31), (-81, 25),
     (-90, 30), (-97, 26), (-95, 18), (-87, 21), (-83, 9), (-77, 8), (-105, 20), (-117, 33), (-124, 42), (-130, 55),
     (-152, 60), (-165, 55)),
    ((-77, 8), (-62, 10), (-50, 0), (-35, -7), (-40, -22), (-58, -38), (-66, -54), (-74, -52), (-71, -18), (-81, -5)),
    ((-17, 21), (-10, 35), (10, 37), (33, 31), (43, 12), (51, 12), (40, -5), (40, -16), (32, -28), (19, -34), (12, -17),
     (9, 4), (-8, 4), (-17, 14)),
    ((-9, 37), (-9, 43), (-1, 44), (-4, 48), (8, 54), (12, 56), (5, 59), (10, 64), (25, 71), (40, 67), (70, 72),
     (105, 77), (140, 72), (178, 67), (163, 60), (156, 51), (155, 59), (135, 54), (127, 40), (120, 38), (122, 30),
     (108, 21), (109, 12), (104, 9), (101, 3), (98, 15), (90, 22), (80, 15), (77, 8), (72, 20), (60, 25), (57, 18),
     (44, 13), (35, 28), (36, 36), (27, 37), (22, 37), (18, 41), (13, 45), (16, 40), (3, 43), (-2, 37)),
    ((114, -22), (122, -17), (131, -12), (137, -16), (142, -11), (153, -26), (150, -37), (140, -38), (129, -32),
     (115, -34)),
    ((-180, -78), (-150, -77), (-100, -73), (-62, -65), (-60, -75), (-10, -71), (50, -67), (110, -66), (165, -71),
     (180, -78), (180, -90), (-180, -90)),
    ((-72, 78), (-30, 83), (-18, 76), (-40, 64), (-48, 61), (-54, 68)),
)  # fmt: skip
"""Continents as polygons of (longitude, latitude) in degrees, a dozen corners each: enough at two degrees."""

MOUNTAINS = (
    (88, 33, 14, 5, 4.6), (-110, 40, 7, 11, 1.9), (-70, -20, 3, 14, 3.2), (-40, 73, 9, 7, 2.6), (60, -80, 70, 10, 3.0),
    (38, 9, 5, 6, 1.8), (50, 33, 8, 4, 1.3), (10, 46, 4, 2, 1.2),
)  # fmt: skip
"""Longitude and latitude of the middle, half widths (degrees) and height (km)."""

_EARTH = 6.371e6
_OMEGA = 7.292e-5
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Weather:
    """Fields at one time, float64 of shape (91, 180), rows north to south, columns from 180 W.

    ``msl`` Pa, ``t2m`` K, ``u10``/``v10`` m s-1, ``rain`` the rate in mm h-1, ``t`` K by level in hPa.
    """

    msl: np.ndarray
    t2m: np.ndarray
    u10: np.ndarray
    v10: np.ndarray
    rain: np.ndarray
    t: dict[int, np.ndarray]


@dataclass(frozen=True)
class _Lows:
    """Pressure disturbances, one value each: start (degrees), speed (degrees/h), depth (hPa, negative for a
    high), radius (km), period (h) and phase of their deepening."""

    latitude: np.ndarray
    longitude: np.ndarray
    speed: np.ndarray
    depth: np.ndarray
    radius: np.ndarray
    period: np.ndarray
    phase: np.ndarray


@lru_cache(maxsize=1)
def _lows() -> _Lows:
    """The storm tracks of both hemispheres, with highs between the lows, and two tropical cyclones."""
    rng = np.random.default_rng(1959)
    parts = []
    for side, middle, waves in ((1, 54, 7), (-1, -56, 8)):
        slots = np.arange(2 * waves)
        low = slots % 2 == 0
        parts.append(
            [
                middle + np.where(low, 2.0, -12.0) * side + rng.uniform(-4, 4, slots.size),
                slots * 180.0 / waves + rng.uniform(-9, 9, slots.size),
                rng.uniform(0.38, 0.58, slots.size),
                np.where(low, rng.uniform(18, 34, slots.size), -rng.uniform(7, 13, slots.size)),
                np.where(low, rng.uniform(750, 1050, slots.size), rng.uniform(1100, 1500, slots.size)),
                rng.uniform(90, 170, slots.size),
                rng.uniform(0, 2 * np.pi, slots.size),
            ]
        )
    tropical = [[15.0, -14.0], [136.0, 72.0], [-0.22, -0.17], [30.0, 22.0], [420.0, 400.0], [200.0, 240.0], [0.5, 2.0]]
    return _Lows(*(np.concatenate([a, b, c]) for a, b, c in zip(*parts, np.array(tropical), strict=True)))


@lru_cache(maxsize=1)
def land() -> np.ndarray:
    """Share of land, 0 to 1, (91, 180), with soft coasts."""
    import shapely

    longitude, latitude = np.meshgrid(LONGITUDE, LATITUDE)
    mask = np.zeros(longitude.shape)
    for corners in CONTINENTS:
        mask = np.maximum(mask, shapely.contains_xy(shapely.Polygon(corners), longitude, latitude))
    around = np.roll(mask, 1, axis=1) + np.roll(mask, -1, axis=1)
    padded = np.pad(mask, ((1, 1), (0, 0)), mode="edge")
    return 0.5 * mask + 0.125 * (around + padded[2:] + padded[:-2])


@lru_cache(maxsize=1)
def height() -> np.ndarray:
    """Height of the ground in km, (91, 180)."""
    longitude, latitude = np.meshgrid(LONGITUDE, LATITUDE)
    total = np.zeros(longitude.shape)
    for east, north, wide, tall, top in MOUNTAINS:
        total = total + top * np.exp(-(((longitude - east) / wide) ** 2) - ((latitude - north) / tall) ** 2)
    return total * land()


def weather(run: datetime, step: int, member: int) -> Weather:
    """The weather ``step`` hours after ``run`` (UTC) as ``member`` has it; member 0 errs least.

    No two runs agree on the weather of a time, as with real models: a run that repeats another one is suspicious.
    """
    time = run + timedelta(hours=step)
    hours = (time - _EPOCH).total_seconds() / 3600
    lows = _lows()
    rng = np.random.default_rng([int(run.timestamp()) // 3600, member])
    growth = 0.05 + step / 96 if member == 0 else 0.3 + step / 24
    shift_east, shift_north, deepen = growth * rng.normal(size=(3, lows.depth.size)) * [[1.8], [1.0], [0.09]]

    phase = lows.phase + 2 * np.pi * hours / lows.period
    north = lows.latitude + 2.5 * np.sin(phase + 1) + shift_north
    east = (lows.longitude + lows.speed * hours + shift_east + 180) % 360 - 180
    depth = lows.depth * (0.72 + 0.28 * np.sin(phase)) * np.exp(deepen)

    latitude = np.deg2rad(LATITUDE)[:, None]
    sine = np.sin(latitude)
    season = -np.cos(2 * np.pi * (time.timetuple().tm_yday + 10) / 365.25)  # 1 in the northern summer
    poleward = np.sign(LATITUDE)[:, None]

    msl = _zonal_pressure(latitude, season) + np.zeros((1, LONGITUDE.size))
    front = np.zeros(msl.shape)
    rain = np.zeros(msl.shape)
    for i in range(depth.size):
        dx = _EARTH * 1e-3 * np.cos(latitude) * np.deg2rad((LONGITUDE[None, :] - east[i] + 180) % 360 - 180)
        dy = _EARTH * 1e-3 * (latitude - np.deg2rad(north[i]))
        side = np.sign(north[i])
        x, y = dx / lows.radius[i], dy * side / lows.radius[i]
        bell = np.exp(-(x**2 + y**2))
        msl -= 100 * depth[i] * bell
        if lows.depth[i] < 0:
            continue
        strength = depth[i] / 30
        if lows.radius[i] < 500:
            rain += 6 * strength * bell
            continue
        # A warm sector ahead of a cold front that trails from the centre towards the equator.
        behind = x - 0.35 * np.minimum(y, 0) ** 2
        wide = np.exp(-(((x - 0.1) / 1.6) ** 2) - ((y + 0.5) / 1.3) ** 2)
        front += 7 * strength * np.tanh((behind - 0.15) / 0.3) * wide
        trail = np.exp(-(((behind - 0.2) / 0.22) ** 2) - ((y + 0.7) / 0.9) ** 2)
        head = np.exp(-(((x - 0.35) / 0.6) ** 2) - ((y - 0.25) / 0.45) ** 2)
        rain += strength * (2.0 * trail + 2.4 * head)

    msl = _bounded(msl)
    u10, v10 = _wind(msl, latitude)
    ground = land()
    top = height()
    local_hour = (hours + LONGITUDE[None, :] / 15) % 24
    daylight = np.cos(2 * np.pi * (local_hour - 14.5) / 24) * np.cos(np.clip(latitude - 0.35 * season, -1.5, 1.5))
    # Mean temperature at sea level: flat in the tropics, steep across the middle latitudes.
    equator = np.sin(latitude - np.deg2rad(6) * season)
    base = 300.5 - 47 * np.abs(equator) ** 2.2 - 4 * np.abs(sine) ** 8
    seasonal = 14 * season * poleward * np.abs(sine) ** 0.8
    base = base + seasonal * (0.35 + 0.65 * ground) - 9 * (sine < -0.9) * ground
    calm = base + front
    t2m = (
        calm
        + ground * (1 + 5 * daylight)
        - 5.5 * top
        + 3 * ground * np.exp(-(((np.abs(LATITUDE[:, None]) - 22) / 9) ** 2))
    )
    return Weather(
        msl=msl,
        t2m=np.clip(t2m, 222, 318),
        u10=u10,
        v10=v10,
        rain=rain + _convection(hours, season),
        t=_aloft(calm, front, sine),
    )


def _zonal_pressure(latitude: np.ndarray, season: float) -> np.ndarray:
    """Mean sea level pressure (Pa) by latitude: equatorial trough, subtropical ridges, stormy sixties."""
    degrees = np.rad2deg(latitude)

    def ridge(middle: float, width: float) -> np.ndarray:
        return np.exp(-(((degrees - middle) / width) ** 2))

    shift = 4 * season
    return 1e5 + 100 * (
        11 + 9 * (ridge(32 + shift, 13) + ridge(-30 + shift, 12)) - 3 * ridge(shift, 9)
        - 4 * ridge(61, 11) - 16 * ridge(-64, 10) + 4 * ridge(90, 14)
    )  # fmt: skip


def _bounded(msl: np.ndarray) -> np.ndarray:
    """Pressure (Pa) kept between 952 and 1048 hPa where lows or highs happen to fall together."""
    deep = 99000 - 3800 * np.tanh((99000 - msl) / 3800)
    high = 103000 + 1800 * np.tanh((msl - 103000) / 1800)
    return np.where(msl < 99000, deep, np.where(msl > 103000, high, msl))


def _wind(msl: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surface wind (m s-1) from pressure (Pa): geostrophic, slowed and turned towards low pressure by
    friction, and damped where the Coriolis parameter vanishes."""
    step = np.deg2rad(2.0)
    cosine = np.maximum(np.cos(latitude), np.cos(np.deg2rad(82)))
    dpdx = (np.roll(msl, -1, axis=1) - np.roll(msl, 1, axis=1)) / (2 * step * _EARTH * cosine)
    dpdy = -np.gradient(msl, step, axis=0) / _EARTH
    coriolis = 2 * _OMEGA * np.sin(latitude)
    inverse = coriolis / (coriolis**2 + (2 * _OMEGA * np.sin(np.deg2rad(11))) ** 2)
    ug, vg = -dpdy * inverse / 1.2, dpdx * inverse / 1.2
    turn = np.deg2rad(20) * np.sign(latitude)
    drag = 0.62
    u = drag * (ug * np.cos(turn) - vg * np.sin(turn))
    v = drag * (ug * np.sin(turn) + vg * np.cos(turn))
    speed = np.hypot(u, v)
    limit = 38.0  # no stronger than a severe storm: bends over smoothly
    scale = limit * np.tanh(speed / limit) / np.maximum(speed, 1e-9)
    return u * scale, v * scale


def _convection(hours: float, season: float) -> np.ndarray:
    """Rain rate (mm h-1) of the tropical rain belt: clusters that drift westwards."""
    longitude, latitude = np.meshgrid(LONGITUDE, LATITUDE)
    rng = np.random.default_rng(2)
    belt = np.zeros(longitude.shape)
    for wave, phase, other in zip(
        (3, 5, 8, 13), rng.uniform(0, 2 * np.pi, 4), rng.uniform(0, 2 * np.pi, 4), strict=True
    ):
        angle = np.deg2rad(wave * (longitude + 0.25 * hours)) + phase
        belt += np.cos(angle + 0.2 * np.sin(np.deg2rad(9 * latitude) + other))
    middle = 5 * season + 3 * np.sin(np.deg2rad(2 * longitude))
    clusters = np.maximum(belt - 0.6, 0) * np.exp(-(((latitude - middle) / 7) ** 2))
    return 0.8 * clusters


def _aloft(calm: np.ndarray, front: np.ndarray, sine: np.ndarray) -> dict[int, np.ndarray]:
    """Temperature (K) on pressure levels from that at sea level; fronts lean back and fade with height."""
    share = np.abs(sine) ** 2
    at_850 = calm - 9.5 + 4 * share
    at_500 = 268 - 33 * share + 0.25 * (calm - 300 + 47 * share) + 0.45 * np.roll(front, -1, axis=1)
    at_250 = 231 - 12 * share + 2 * share**4 - 0.25 * np.roll(front, -2, axis=1)
    return {850: np.clip(at_850, 215, 310), 500: np.clip(at_500, 210, 275), 250: np.clip(at_250, 195, 245)}
