"""The exporter ``map``: what the picture shows, and where."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread
from pydantic import ValidationError

from tasks.exports.exporter import exporters
from tasks.exports.fields import horizontal
from tasks.exports.map import frame_of
from tasks.exports.palette import STYLES, display_of, limits, style_of
from tasks.lake.errors import UsageError
from tests.exports.runs import make_run


def draw(run, folder, **fields):
    exporter = exporters.build(
        {"type": "map", "name": "look", "variable": "t2m", "lead_time": 6, "width": 700} | fields
    )
    (path,) = exporter.render(run, folder)
    return (imread(path)[..., :3] * 255).round().astype(int), frame_of(horizontal(run), exporter.bbox, exporter.width)


def inner(pixels, frame):
    return pixels[frame.top : frame.top + frame.rows, frame.left : frame.left + frame.columns]


@pytest.mark.parametrize("bbox", [None, [140, -60, -130, 60]])
@pytest.mark.parametrize("kind", ["global", "global-360"])
@pytest.mark.parametrize(("lat", "lon"), [(-30, -150), (40, 170), (6, 180)])
def test_the_hottest_place_is_drawn_where_it_belongs(tmp_path, kind, bbox, lat, lon):
    run = make_run(kind, members=0, levels=())
    run["t2m"][:] = 280
    east = (lon + 360) % 360 if kind == "global-360" else (lon + 180) % 360 - 180
    run["t2m"].loc[{"latitude": lat, "longitude": east}] = 310
    pixels, frame = draw(run, tmp_path, bbox=bbox)
    hottest = np.array(colormaps["plasma"](1.0, bytes=True)[:3]).astype(int)
    rows, columns = np.nonzero((np.abs(inner(pixels, frame) - hottest) <= 2).all(axis=-1))
    lats, lons = frame.pixel_centres()
    shown = (lons[columns] - lon + 180) % 360 - 180
    pixel = max((frame.east - frame.west) / frame.columns, (frame.north - frame.south) / frame.rows)
    assert len(rows) > 1
    assert np.abs(lats[rows] - lat).max() <= 1 + pixel
    assert np.abs(shown).max() <= 1 + pixel
    assert lats[rows].mean() == pytest.approx(lat, abs=pixel)


def test_the_hottest_place_on_a_curvilinear_grid(tmp_path):
    run = make_run("lambert", members=0, levels=())
    run["t2m"][:] = 280
    run["t2m"][:, 30, 10] = 310
    pixels, frame = draw(run, tmp_path)
    hottest = np.array(colormaps["plasma"](1.0, bytes=True)[:3]).astype(int)
    rows, columns = np.nonzero((np.abs(inner(pixels, frame) - hottest) <= 2).all(axis=-1))
    lats, lons = frame.pixel_centres()
    assert lats[rows].mean() == pytest.approx(float(run.latitude[30, 10]), abs=0.1)
    assert lons[columns].mean() == pytest.approx(float(run.longitude[30, 10]), abs=0.1)


def test_coast_is_drawn_where_africa_ends(tmp_path):
    run = make_run("global", members=0, levels=())
    run["t2m"][:] = 280
    pixels, frame = draw(run, tmp_path, width=1000)
    dark = (inner(pixels, frame) < 60).all(axis=-1)
    lats, lons = frame.pixel_centres()
    cape = np.abs(lats[:, None] + 34.4) + np.abs(lons[None, :] - 18.5) < 2
    ocean = (np.abs(lats[:, None] + 40) < 5) & (np.abs(lons[None, :] + 100) < 8)
    assert dark[cape].any()
    assert not dark[ocean].any()


def test_size_and_missing_values(tmp_path):
    pixels, frame = draw(make_run("regional"), tmp_path, variable="tp", width=640)
    assert pixels.shape[1] == 640
    assert (pixels.shape[1], pixels.shape[0]) == frame.size
    assert (inner(pixels, frame) == 205).all(axis=-1).sum() > 20


@pytest.mark.parametrize("value", [np.nan, 273.15])
def test_a_field_of_one_value_or_none_is_drawn(tmp_path, value):
    run = make_run("regional", members=0, levels=())
    run["t2m"][:] = value
    draw(run, tmp_path, contour="t2m")


def test_mean_of_members(tmp_path):
    run = make_run("regional", nan=False)
    mean, _ = draw(run, tmp_path, member="mean")
    middle, _ = draw(run, tmp_path, member=1)
    first, _ = draw(run, tmp_path)
    zero, _ = draw(run, tmp_path, member=0)
    frame = frame_of(horizontal(run), None, 700)
    np.testing.assert_array_equal(first, zero)
    np.testing.assert_array_equal(inner(mean, frame), inner(middle, frame))  # members are evenly spaced


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variable": "t"}, "2 levels"), ({"variable": "t", "level": 700}, "no level 700; it has: 850, 500"),
        ({"level": 500}, "no levels"), ({"member": 9}, "no member 9; it has: 0, 1, 2"),
        ({"lead_time": 7}, "no lead time 7 h"),
        ({"contour": "z"}, "no variable 'z'"), ({"bbox": [100, 0, 110, 5]}, "holds no cell"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(tmp_path, fields, message):
    with pytest.raises(UsageError, match=message):
        draw(make_run("regional"), tmp_path, **fields)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "standard_name", "units", "shown", "value"),
    [
        ("t2m", "air_temperature", "K", "°C", (273.15, 0)), ("msl", "", "Pa", "hPa", (101325, 1013.25)),
        ("tp", "", "m", "mm", (0.002, 2)), ("prate", "precipitation_flux", "kg m-2 s-1", "mm/h", (1 / 3600, 1)),
        ("u10", "eastward_wind", "m s-1", "m/s", (3, 3)), ("tcc", "cloud_area_fraction", "1", "%", (0.5, 50)),
        ("skt", "", "K", "°C", (273.15, 0)),
        ("xyz", "", "K", "°C", (273.15, 0)),
        ("q", "specific_humidity", "kg kg-1", "g/kg", (0.001, 1)),
    ],
)  # fmt: skip
def test_units_on_display(name, standard_name, units, shown, value):
    display = display_of(style_of(name, standard_name, units=units), units)
    assert display.units == shown
    assert value[0] * display.factor + display.offset == pytest.approx(value[1], abs=1e-9)


@pytest.mark.parametrize("style", [s for s in STYLES if s.scale != "signed"], ids=lambda s: s.pattern[:20])
def test_colour_maps_change_lightness_one_way(style):
    red, green, blue = (colormaps[style.colours](np.linspace(0, 1, 64))[:, :3]).T
    lightness = np.diff(0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2)
    assert (lightness >= -1e-3).all() or (lightness <= 1e-3).all()


def test_signed_quantities_are_symmetric():
    style = style_of("u10", "eastward_wind")
    assert limits(np.array([-3.0, 12.0, np.nan]), style) == (-12, 12)
    assert limits(np.array([np.nan]), style) == (-1, 1)


@pytest.mark.parametrize("form", ["gif", "webp", "apng"])
def test_a_loop_has_a_picture_a_lead_time(tmp_path, form):
    from PIL import Image

    config = {"type": "map", "name": "loop", "variable": "t2m", "loop": form, "steps": [0, 12], "width": 300}
    (path,) = exporters.build(config).render(make_run("regional"), tmp_path)
    assert path.name == f"loop.{form}"
    with Image.open(path) as picture:
        assert picture.n_frames == 2
        frames = []
        for n in range(2):
            picture.seek(n)
            frames.append(np.asarray(picture.convert("RGB")))
    assert frames[0].shape == frames[1].shape
    assert frames[0][-1, 0].tolist() == frames[1][-1, 0].tolist() == [255, 255, 255]
    # Two degrees warmer, in the same colours: another picture, the same bar.
    assert not np.array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0][-90:], frames[1][-90:])


@pytest.mark.parametrize("fields", [{}, {"lead_time": 6, "loop": "gif"}, {"lead_time": 6, "steps": [0, 6]}])
def test_one_map_or_a_loop(fields):
    with pytest.raises(ValidationError, match=r"needs either|has 'steps'"):
        exporters.build({"type": "map", "name": "m", "variable": "t2m"} | fields)
