"""Variables that follow from others point by point: wind speed and direction, relative humidity, dew point.

All take float arrays of one shape and return float32 of that shape; NaN in an input is NaN in the result.
"""

import numpy as np

T0 = 273.16
"""Triple point of water, K."""

_A1, _A3, _A4 = 611.21, 17.502, 32.19
"""Coefficients of Teten's formula over liquid water (Pa, 1, K) after Buck (1981), as ECMWF uses them: IFS Documentation
CY49R1, Part IV: Physical Processes, section 7.4.2 (equation 7.5 of earlier cycles)."""

_DRIEST = 0.1
"""Relative humidity (%) that drier air is taken to have: its dew point would be that of no water at all."""


def wind_speed(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Speed of a vector with components towards east and north, in their units: ``sqrt(u**2 + v**2)``."""
    return np.hypot(u, v).astype("float32", copy=False)


def wind_direction(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Direction the wind comes from, degrees clockwise from north, 0 <= d < 360; NaN where it is calm.

    ``atan2(-u, -v)``: WMO Guide to Instruments and Methods of Observation (WMO-No. 8), Volume I, chapter 5:
    the direction from which the wind blows, clockwise from geographical north.
    """
    degrees = np.degrees(np.arctan2(-u, -v)) % 360
    # Rounding may make 360 of a tiny negative angle.
    degrees = np.where(degrees >= 360, 0.0, degrees).astype("float32", copy=False)
    degrees[(u == 0) & (v == 0)] = np.nan
    return degrees


def saturation_pressure(temperature: np.ndarray) -> np.ndarray:
    """Saturation vapour pressure (Pa, float64) over liquid water at a temperature in K, also below freezing.

    ``es = a1 exp(a3 (T - T0) / (T - a4))``, Teten's formula with the coefficients of Buck (1981). Over water at all
    temperatures: what relative humidity and dew point refer to by WMO's convention (WMO-No. 8, Volume I, annex 4.A).
    """
    wide = np.asarray(temperature, "float64")
    return _A1 * np.exp(_A3 * (wide - T0) / (wide - _A4))


def relative_humidity(temperature: np.ndarray, dew_point: np.ndarray) -> np.ndarray:
    """Relative humidity over water in %, 0 to 100, from temperature and dew point in K.

    ``100 es(Td) / es(T)`` (`saturation_pressure`). A dew point above the temperature, which packing makes of
    saturated air, gives 100.
    """
    share = 100.0 * saturation_pressure(dew_point) / saturation_pressure(temperature)
    return np.minimum(share, 100.0).astype("float32")


def dew_point(temperature: np.ndarray, relative_humidity: np.ndarray) -> np.ndarray:
    """Dew point over water in K from temperature in K and relative humidity over water in %.

    The inverse of `relative_humidity`: with ``x = ln(rh/100 es(T) / a1)``, ``Td = (a3 T0 - a4 x) / (a3 - x)``. Air
    drier than 0.1 % counts as 0.1 %, more than 100 % as 100 %.
    """
    share = np.clip(np.asarray(relative_humidity, "float64"), _DRIEST, 100.0) / 100.0
    x = np.log(share * saturation_pressure(temperature) / _A1)
    return ((_A3 * T0 - _A4 * x) / (_A3 - x)).astype("float32")
