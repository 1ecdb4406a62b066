"""Plug-ins: one file that registers itself. A plug-in is a strict pydantic model with behaviour.

The recipe names it by ``type`` and its fields are the keys a user may write, so the documentation, the
validation and the code of a source, check or exporter are one class::

    @exporters.register("points")
    class Points(Exporter):
        longitude: float
"""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationError, WrapValidator

from .errors import RecipeError


class Strict(BaseModel):
    """Frozen pydantic model that refuses unknown keys: the base of everything written in a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Plugin(Strict):
    """Base of every plug-in; ``type`` is the name it registered under."""

    type: str


class Registry[T: Plugin]:
    """Plug-ins of one kind, found in the modules of a package (or several) the first time one is asked for."""

    def __init__(self, noun: str, package: str) -> None:
        self.noun = noun
        self._packages = [package]
        self._classes: dict[str, type[T]] = {}
        self._loaded = False

    def register(self, name: str):
        """Class decorator: make the class available under ``name``."""

        def add(cls: type[T]) -> type[T]:
            if name in self._classes and self._classes[name].__module__ != cls.__module__:
                raise RuntimeError(f"two {self.noun}s are named {name!r}: {self._classes[name]} and {cls}")
            self._classes[name] = cls
            return cls

        return add

    def extend(self, package: str) -> None:
        """Look for plug-ins in the modules of another package, too: those that one kind of data adds."""
        if package not in self._packages:
            self._packages.append(package)
            self._loaded = False

    def _load(self) -> None:
        if self._loaded:
            return
        for name in self._packages:
            package = importlib.import_module(name)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{name}.{module.name}")
        self._loaded = True

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._classes))

    def __getitem__(self, name: str) -> type[T]:
        self._load()
        try:
            return self._classes[name]
        except KeyError:
            known = ", ".join(self)
            raise RecipeError(f"there is no {self.noun} named {name!r}; known are: {known}") from None

    def build(self, value: Any) -> T:
        """A plug-in from a mapping with its ``type`` (or a bare name, for one that needs no fields).

        Raises ``RecipeError`` for an unknown name, ``pydantic.ValidationError`` for wrong fields.
        """
        if isinstance(value, Plugin):
            return value  # type: ignore[return-value]
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, dict) or "type" not in value:
            raise RecipeError(f"a {self.noun} needs a 'type'; known are: {', '.join(self)}")
        return self[str(value["type"])].model_validate(value)

    @property
    def field(self) -> Any:
        """Annotation for a recipe field that holds one plug-in of this registry."""

        def validate(value: Any, _handler: Any) -> T:
            try:
                return self.build(value)
            except RecipeError as error:
                raise ValueError(str(error)) from error

        return Annotated[SerializeAsAny[Plugin], WrapValidator(validate)]


def sentence(error: ValidationError, where: str) -> str:
    """A pydantic error as one clear sentence that names every wrong key."""
    parts = []
    for item in error.errors():
        path = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key '{path}'")
        elif item["type"] == "missing":
            parts.append(f"key '{path}' is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            parts.append(f"'{path}' {message[0].lower()}{message[1:]} (found {item.get('input')!r})"[:300])
    return f"{where}: " + "; ".join(parts)
