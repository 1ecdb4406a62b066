"""The lake with the demo in it, as the tests of flows have it."""

from ..flows.conftest import demo

__all__ = ["demo"]
