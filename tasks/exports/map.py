"""Exporter ``map``: one field of a run as a PNG, or a loop of its lead times, in plate carree, with coastlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ..lake.errors import UsageError
from . import animation
from .box import Box, compact, width, window
from .coastlines import Resolution, coastlines_between
from .exporter import Exporter, exporters
from .fields import Horizontal, field, horizontal, init_time, lead_hours, place, steps_at, utc_text, valid_times
from .locate import curvilinear_search, nearest_columns, nearest_rows
from .palette import Display, Style, display_of, limits, style_of

if TYPE_CHECKING:
    import xarray as xr

_DPI = 100
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 84, 104  # pixels around the map for labels, title and colour bar
_GRATICULE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60)  # degrees between lines
_MOST_CONTOURED = 400  # rows or columns; a quick-look shows no more


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the map lies in the picture: ``columns`` x ``rows`` pixels, ``left`` and ``top`` pixels from
    the picture's upper left corner; its edges in degrees (``east`` > ``west``, may be beyond 180)."""

    west: float
    south: float
    east: float
    north: float
    columns: int
    rows: int
    left: int = _LEFT
    top: int = _TOP

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture in pixels."""
        return self.left + self.columns + _RIGHT, self.top + self.rows + _BOTTOM

    def pixel_centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Latitudes ``(rows,)`` from the north and longitudes ``(columns,)`` from the west, in degrees."""
        lat = self.north - (np.arange(self.rows) + 0.5) * (self.north - self.south) / self.rows
        return lat, self.west + (np.arange(self.columns) + 0.5) * (self.east - self.west) / self.columns


@dataclass(frozen=True, eq=False)
class _Place:
    """A run and where it is drawn: the frame, the cells shown and the selection that cuts them out."""

    run: xr.Dataset
    frame: Frame
    cells: Horizontal
    cut: dict[str, Any]


@exporters.register("map")
class Map(Exporter):
    """A quick-look: one variable at one lead time, a PNG with coastlines, graticule and colour bar.

    Temperatures are shown in degrees Celsius, pressures in hPa, amounts of water in mm. Every pixel shows the
    nearest grid cell; pixels beyond the grid stay white, missing values grey. A map of a region is
    stretched so that distances fit at its middle latitude.

    With ``loop`` it is one animated picture of several lead times, with the same colours for the same values in all:
    ``gif`` (256 colours, plays everywhere), ``webp`` or ``apng`` (all colours).
    """

    type: Literal["map"] = "map"
    variable: str
    lead_time: float | None = Field(default=None, ge=0, description="Lead time in hours; with 'loop' left out.")
    loop: Literal["gif", "webp", "apng"] | None = Field(default=None, description="An animated picture, of this form.")
    steps: tuple[float, ...] | None = Field(
        default=None, min_length=2, description="Lead times of a loop in hours; all when absent."
    )
    frame_ms: int = Field(default=250, ge=20, le=10_000, description="How long a loop shows a picture, in ms.")
    level: float | None = Field(default=None, description="Level, for a variable with several.")
    member: int | Literal["mean"] | None = Field(
        default=None, description="Member, or the ensemble mean; the first when absent."
    )
    bbox: Box | None = Field(
        default=None, description="West, south, east, north in degrees; west > east crosses the date line."
    )
    contour: str | None = Field(default=None, description="A second variable, drawn as lines.")
    contour_level: float | None = Field(default=None, description="Its level; that of the map when absent.")
    width: int = Field(default=1200, ge=300, le=6000, description="Width of the picture in pixels.")

    @model_validator(mode="after")
    def _one_or_several(self) -> Map:
        if (self.lead_time is None) == (self.loop is None):
            raise ValueError("needs either 'lead_time', for one map, or 'loop', for several")
        if self.steps is not None and self.loop is None:
            raise ValueError("has 'steps', which are those of a 'loop'")
        return self

    def render(self, run: xr.Dataset, folder: Path) -> list[Path]:
        grid = horizontal(run)
        frame = frame_of(grid, self.bbox, self.width)
        cells, cut = (grid, {}) if self.bbox is None else _cut(grid, self.bbox)
        place = _Place(run, frame, cells, cut)
        if self.loop is None:
            path = folder / f"{self.name}.png"
            self._draw(place, steps_at(run, [self.lead_time or 0.0])[0], None).save(path)
            return [path]
        at = list(range(run.sizes["lead_time"])) if self.steps is None else steps_at(run, sorted(set(self.steps)))
        between = self._limits(place, at)
        path = folder / f"{self.name}.{self.loop}"
        animation.save(path, (self._draw(place, n, between).pixels() for n in at), self.frame_ms)
        return [path]

    def _draw(self, place: _Place, at: int, between: tuple[float, float] | None) -> _Picture:
        """The map of one lead time; colours go by ``between`` (in the unit shown), or by the map's own values."""
        run, frame, cells = place.run, place.frame, place.cells
        drawn, note = self._pick(run, self.variable, self.level, at)
        if self.level is not None and "level" not in run[self.variable].dims:
            raise UsageError(f"variable {self.variable!r} has no levels; leave 'level' out")
        if self.member is not None and "member" not in run[self.variable].dims:
            raise UsageError(f"variable {self.variable!r} has no members; leave 'member' out")
        style, display, values = _shown(drawn.isel(place.cut))
        picture = _Picture(frame)
        between = limits(values, style) if between is None else between
        picture.field(raster(cells, values, frame), between, style, _label(drawn, note, display))
        picture.coast()
        if self.contour is not None:
            lines, line_note = self._pick(
                run, self.contour, self.level if self.contour_level is None else self.contour_level, at
            )
            _, line_display, line_values = _shown(lines.isel(place.cut))
            picture.contours(cells, line_values)
            note = f"lines: {_label(lines, line_note, line_display)}"
        else:
            note = ""
        picture.title(*self._title(run, drawn, note, at))
        return picture

    def _limits(self, place: _Place, at: Sequence[int]) -> tuple[float, float]:
        """The colours' ends for all maps of a loop, from cells here and there of each."""
        seen = []
        for n in at:
            drawn = self._pick(place.run, self.variable, self.level, n)[0].isel(place.cut)
            style, _, values = _shown(drawn)
            seen.append(values[tuple(slice(None, None, -(-size // _MOST_CONTOURED)) for size in values.shape)])
        return limits(np.stack(seen), style)

    def _pick(self, run: xr.Dataset, name: str, level: float | None, at: int) -> tuple[xr.DataArray, str]:
        """One map of a variable, still lazy, and what was picked in words."""
        array = field(run, name).isel(lead_time=at)
        notes = []
        if "level" in array.dims:
            if level is None and array.sizes["level"] > 1:
                raise UsageError(
                    f"variable {name!r} has {array.sizes['level']} levels; name one with 'level'",
                    expected=", ".join(f"{v:g}" for v in array["level"].values),
                    found="none",
                )
            array = array.isel(level=0 if level is None else place(array, "level", level))
            units = array["level"].attrs.get("units", "1")
            notes.append(f"{float(array['level']):g} {units}" if units != "1" else f"level {float(array['level']):g}")
        if "member" in array.dims:
            if self.member == "mean":
                notes.append(f"mean of {array.sizes['member']} members")
                array = array.mean("member", skipna=False, keep_attrs=True)
            else:
                at = 0 if self.member is None else place(array, "member", self.member)
                array = array.isel(member=at)
                notes.append("control" if int(array["member"]) == 0 else f"member {int(array['member'])}")
        if array.ndim > 2:
            raise UsageError(
                f"variable {name!r} cannot be drawn as one map",
                expected="no dimension beyond level and member",
                found=array.dims[:-2],
            )
        return array, ", ".join(notes)

    def _title(self, run: xr.Dataset, drawn: xr.DataArray, note: str, at: int) -> tuple[str, str]:
        init, valid = utc_text(init_time(run)), utc_text(valid_times(run)[at])
        times = f"init_time {init[:16]}Z   lead_time +{lead_hours(run)[at]:g} h   valid_time {valid[:16]}Z"
        return str(run.attrs.get("title") or drawn.name), "\n".join(t for t in (times, note) if t)


def frame_of(grid: Horizontal, bbox: Box | None, picture_width: int) -> Frame:
    """The map's edges - of the box, or of the outermost cells - and its size in pixels.

    A map of more than 90 degrees of latitude is plain plate carree (a degree is as wide as high); a smaller
    one is narrowed by the cosine of its middle latitude. A map higher than 1.5 widths is made narrower.
    """
    west, south, east, north = _edges(grid) if bbox is None else (bbox[0], bbox[1], bbox[0] + width(bbox), bbox[3])
    middle = np.radians((south + north) / 2)
    ratio = (north - south) / ((east - west) * (1.0 if north - south > 90 else max(np.cos(middle), 0.1)))
    most = picture_width - _LEFT - _RIGHT
    columns = most if ratio <= 1.5 else max(100, round(1.5 * most / ratio))
    left = _LEFT + (most - columns) // 2
    return Frame(west, south, east, north, most - 2 * (left - _LEFT), max(60, round(columns * ratio)), left)


def raster(grid: Horizontal, values: np.ndarray, frame: Frame) -> np.ma.MaskedArray:
    """The value of the nearest cell at every pixel, shape ``(rows, columns)``; masked beyond the grid."""
    lat, lon = frame.pixel_centres()
    if grid.regular:
        rows, in_y = nearest_rows(grid, lat)
        columns, in_x = nearest_columns(grid, lon)
        outside = ~(in_y[:, None] & in_x[None, :])
        return np.ma.MaskedArray(values[np.ix_(rows, columns)], outside)
    rows, columns, inside = curvilinear_search(grid)(*np.meshgrid(lat, lon, indexing="ij"))
    return np.ma.MaskedArray(values[rows, columns], ~inside)


class _Picture:
    """A figure with a map in the frame; matplotlib's object interface, so nothing global changes."""

    def __init__(self, frame: Frame) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.frame = frame
        across, down = frame.size
        self.figure = Figure(figsize=(across / _DPI, down / _DPI), dpi=_DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes(self._box(frame.left, frame.top, frame.columns, frame.rows))
        self.axes.set(xlim=(frame.west, frame.east), ylim=(frame.south, frame.north), aspect="auto")
        self._graticule()

    def _box(self, left: float, top: float, columns: float, rows: float) -> tuple[float, float, float, float]:
        across, down = self.frame.size
        return left / across, 1 - (top + rows) / down, columns / across, rows / down

    def field(self, pixels: np.ma.MaskedArray, between: tuple[float, float], style: Style, label: str) -> None:
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize, PowerNorm

        frame = self.frame
        low, high = between
        norm = PowerNorm(0.5, low, high, clip=True) if style.scale == "root" else Normalize(low, high)
        colours = colormaps[style.colours]
        image = colours(norm(pixels.data.astype("float64")), bytes=True)
        image[~np.isfinite(pixels.data)] = (205, 205, 205, 255)
        image[np.ma.getmaskarray(pixels)] = 255
        self.axes.imshow(
            image,
            extent=(frame.west, frame.east, frame.south, frame.north),
            aspect="auto",
            interpolation="none",
            zorder=0,
        )
        bar = self.figure.add_axes(self._box(frame.left, frame.top + frame.rows + 40, frame.columns, 14))
        scale = self.figure.colorbar(ScalarMappable(norm, colours), cax=bar, orientation="horizontal")
        scale.ax.tick_params(labelsize=8)
        scale.set_label(label, fontsize=9)

    def coast(self) -> None:
        from matplotlib.collections import LineCollection

        frame = self.frame
        lines = coastlines_between(frame.west, frame.east, _resolution(frame))
        for colour, thickness in (("white", 1.8), ("black", 0.7)):  # dark on a light rim shows on any colour
            self.axes.add_collection(
                LineCollection(lines, colors=colour, linewidths=thickness, zorder=3), autolim=False
            )

    def contours(self, grid: Horizontal, values: np.ndarray) -> None:
        thin = tuple(slice(None, None, -(-n // _MOST_CONTOURED)) for n in values.shape)
        values = np.ma.masked_invalid(values[thin])
        if values.count() == 0 or values.min() == values.max() or min(values.shape) < 2:
            return
        middle = (self.frame.west + self.frame.east) / 2
        if grid.regular:
            lon = _about(grid.longitude[thin[1]], middle)
            order = np.argsort(lon, kind="stable")
            lon, values, lat = lon[order], values[:, order], grid.latitude[thin[0]]
            if grid.global_longitude:
                lon, values = np.append(lon, lon[0] + 360), np.ma.concatenate([values, values[:, :1]], axis=1)
        else:
            lat, lon = grid.latitude[thin], _about(grid.longitude[thin], middle)
            jump = np.abs(np.diff(lon, axis=1)) > 180
            values = np.ma.MaskedArray(values, np.ma.getmaskarray(values) | np.pad(jump, ((0, 0), (0, 1))))
        drawn = self.axes.contour(lon, lat, values, levels=10, colors="black", linewidths=0.7, zorder=4)
        self.axes.clabel(drawn, fontsize=7, fmt="%g")

    def title(self, first: str, second: str) -> None:
        across, down = self.frame.size
        left = self.frame.left / across
        self.figure.text(left, 1 - 12 / down, first, fontsize=12, weight="bold", va="top")
        self.figure.text(left, 1 - 36 / down, second, fontsize=9, va="top", linespacing=1.4)

    def pixels(self) -> np.ndarray:
        """The picture as uint8 (rows, columns, RGB)."""
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()

    def save(self, path: Path) -> None:
        # No Software entry: the same field gives the same bytes whatever the version writes there.
        self.canvas.print_png(path, metadata={"Software": None})

    def _graticule(self) -> None:
        from matplotlib.ticker import FuncFormatter, MultipleLocator

        frame = self.frame
        spans = (frame.east - frame.west, frame.north - frame.south)
        for axis, span, letters in zip((self.axes.xaxis, self.axes.yaxis), spans, ("WE", "SN"), strict=True):
            axis.set_major_locator(MultipleLocator(next((s for s in _GRATICULE if span <= 9 * s), 60)))
            axis.set_major_formatter(FuncFormatter(lambda v, _, letters=letters: _degrees(v, letters)))
        self.axes.tick_params(labelsize=8, length=3)
        self.axes.grid(color="black", alpha=0.25, linewidth=0.5, zorder=2)
        self.axes.set_axisbelow(False)


def _shown(array: xr.DataArray) -> tuple[Style, Display, np.ndarray]:
    """Style and display unit of a map, and its values in that unit (float32 or float64, ``(y, x)``)."""
    text = {k: str(array.attrs.get(k, "")) for k in ("standard_name", "long_name", "units")}
    style = style_of(str(array.name), text["standard_name"], text["long_name"], text["units"])
    display = display_of(style, text["units"])
    return style, display, array.load().values * display.factor + display.offset


def _label(array: xr.DataArray, note: str, display: Display) -> str:
    name = array.attrs.get("long_name") or array.attrs.get("standard_name") or array.name
    return f"{name}{f', {note}' if note else ''}{f' ({display.units})' if display.units else ''}"


def _cut(grid: Horizontal, bbox: Box) -> tuple[Horizontal, dict[str, Any]]:
    """The part of the grid that a box shows, with a cell to spare on each side, and the selection for it."""
    rows, columns, _ = window(grid, bbox)
    rows = np.arange(max(rows.min() - 1, 0), min(rows.max() + 2, grid.latitude.shape[0]))
    size = grid.longitude.shape[-1]
    if grid.regular and grid.global_longitude:
        if len(columns) + 2 <= size:
            step = 1 if len(columns) < 2 or (columns[1] - columns[0]) % size == 1 else -1
            columns = np.concatenate([[(columns[0] - step) % size], columns, [(columns[-1] + step) % size]])
    else:
        columns = np.arange(max(columns.min() - 1, 0), min(columns.max() + 2, size))
    at = columns if grid.regular else (rows[:, None], columns[None, :])
    latitude = grid.latitude[rows] if grid.regular else grid.latitude[at]
    return Horizontal(grid.y, grid.x, latitude, grid.longitude[at]), {grid.y: compact(rows), grid.x: compact(columns)}


def _edges(grid: Horizontal) -> tuple[float, float, float, float]:
    """Outer edges of a grid's cells: west, south, east, north in degrees, east > west."""
    lat = np.sort(grid.latitude.ravel()[np.isfinite(grid.latitude.ravel())])
    if grid.regular:
        lon = np.sort(grid.longitude)
        dx, dy = (np.diff(a).mean() / 2 if len(a) > 1 else 0.5 for a in (lon, lat))
        west, east = float(lon[0] - dx), float(lon[-1] + dx)
        if grid.global_longitude:
            # Cell centres on a meridian where maps begin: begin there, not half a cell before it.
            meridian = 180.0 * round(west / 180)
            west = meridian if abs(west - meridian) <= 2 * dx else west
            east = west + 360
    else:
        known = grid.longitude[np.isfinite(grid.longitude)]
        middle = float(np.degrees(np.angle(np.exp(1j * np.radians(known)).mean())))
        about = _about(known, middle)
        west, east, dy = float(about.min()), float(about.max()), 0.0
        if east - west > 355:
            west, east = -180.0, 180.0
    return west, max(-90.0, float(lat[0] - dy)), east, min(90.0, float(lat[-1] + dy))


def _about(longitude: np.ndarray, middle: float) -> np.ndarray:
    """Longitudes within half a turn of a middle."""
    return middle + np.mod(longitude - middle + 180, 360) - 180


def _resolution(frame: Frame) -> Resolution:
    degrees = (frame.east - frame.west) / frame.columns
    return "c" if degrees > 0.15 else "l" if degrees > 0.05 else "i"


def _degrees(value: float, letters: str) -> str:
    if letters == "WE":
        value = (value + 180) % 360 - 180
    text = f"{abs(value):g}°"
    return text if value == 0 or abs(value) == 180 else text + letters[int(value > 0)]
