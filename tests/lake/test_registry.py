"""Registries: plug-ins are found, named by type, and refused in one sentence."""

import sys
import types
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.lake.errors import RecipeError
from tasks.lake.registry import Plugin, Registry, Strict, sentence

PLUGIN = """
from tests.lake.test_registry import Shape, registry
@registry().register("{name}")
class {cls}(Shape):
    size: float = 1
"""
_CURRENT: list[Registry] = []


class Shape(Plugin):
    """What the plug-ins of these tests are."""


def registry() -> Registry[Shape]:
    """The registry under test, for the modules it loads."""
    return _CURRENT[-1]


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A registry over a package of two modules, one plug-in in each."""
    package = tmp_path / "toyshapes"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("square", "circle"):
        (package / f"{name}.py").write_text(PLUGIN.format(name=name, cls=name.title()))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = Registry[Shape]("shape", "toyshapes")
    # The plug-ins import this module under its full name, whatever name pytest gave it.
    module = types.ModuleType("tests.lake.test_registry")
    module.Shape, module.registry = Shape, lambda: found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.lake.test_registry", module)
    yield found
    for name in [n for n in sys.modules if n.split(".")[0] == "toyshapes"]:
        del sys.modules[name]


def test_plugins_are_found_when_first_asked_for(shapes: Registry[Shape]) -> None:
    assert "toyshapes" not in sys.modules
    assert list(shapes) == ["circle", "square"]
    assert shapes["circle"].__name__ == "Circle"


def test_a_plugin_is_built_from_what_a_recipe_says(shapes: Registry[Shape]) -> None:
    circle = shapes.build({"type": "circle", "size": 3})
    assert circle.model_dump() == {"type": "circle", "size": 3.0}
    assert shapes.build("square").model_dump() == {"type": "square", "size": 1.0}
    assert shapes.build(circle) is circle
    assert shapes.build(circle.model_dump()) == circle


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("triangle", "there is no shape named 'triangle'; known are: circle, square"),
        ({"type": "triangle"}, "there is no shape named 'triangle'; known are: circle, square"),
        ({"size": 1}, "a shape needs a 'type'; known are: circle, square"),
        (7, "a shape needs a 'type'"),
    ],
)
def test_what_is_no_plugin(shapes: Registry[Shape], value: object, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        shapes.build(value)


def test_a_field_of_a_recipe(shapes: Registry[Shape]) -> None:
    class Drawing(Strict):
        shape: shapes.field  # type: ignore[valid-type]

    drawing = Drawing.model_validate({"shape": {"type": "circle", "size": 2}})
    assert type(drawing.shape).__name__ == "Circle"
    # The plug-in's own fields are kept, not only those of its base.
    assert drawing.model_dump(mode="json") == {"shape": {"type": "circle", "size": 2.0}}
    for wrong, said in [
        (
            {"shape": "triangle"},
            "it: 'shape' there is no shape named 'triangle'; known are: circle, square (found 'triangle')",
        ),
        ({"shape": {"type": "circle", "sise": 2}}, "it: unknown key 'shape.sise'"),
        ({"shape": "circle", "more": 1}, "it: unknown key 'more'"),
        ({}, "it: key 'shape' is missing"),
    ]:
        with pytest.raises(ValidationError) as caught:
            Drawing.model_validate(wrong)
        assert sentence(caught.value, "it") == said


def test_two_of_the_same_name_are_a_mistake() -> None:
    names = Registry[Shape]("shape", "nowhere")

    class One(Shape):
        pass

    class Two(Shape):
        __module__ = "elsewhere"

    names.register("one")(One)
    names.register("one")(One)
    with pytest.raises(RuntimeError, match="two shapes are named 'one'"):
        names.register("one")(Two)


def test_another_package_adds_its_own(shapes: Registry[Shape], tmp_path: Path):
    assert list(shapes) == ["circle", "square"]
    package = tmp_path / "moreshapes"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "oval.py").write_text(PLUGIN.format(name="oval", cls="Oval"))
    shapes.extend("moreshapes")
    shapes.extend("moreshapes")
    assert list(shapes) == ["circle", "oval", "square"]
    assert shapes.build("oval").type == "oval"
    del sys.modules["moreshapes"], sys.modules["moreshapes.oval"]
