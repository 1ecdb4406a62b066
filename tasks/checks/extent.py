"""How much of the globe a grid covers."""

import numpy as np


def globe_share(latitude: np.ndarray, longitude: np.ndarray) -> float:
    """Share of the earth's surface within the bounds of a grid, 0..1.

    ``latitude``/``longitude`` in degrees, of any shape; NaN or nothing gives 0. The area of a box of latitudes
    is proportional to the difference of their sines.
    """
    if not latitude.size or not longitude.size:
        return 0.0
    south, north = float(np.min(latitude)), float(np.max(latitude))
    width = float(np.max(longitude)) - float(np.min(longitude))
    share = (np.sin(np.radians(north)) - np.sin(np.radians(south))) / 2 * min(1.0, width / 360.0)
    return float(share) if np.isfinite(share) else 0.0
