"""Forecast model runs: GRIB by index to cubes."""

from .recipe import ForecastRecipe as Recipe

__all__ = ["Recipe"]
