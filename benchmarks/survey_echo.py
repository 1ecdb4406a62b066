"""A function for child processes that has all imports of a check and does nothing: what a check costs beyond itself."""

from tasks.surveys import inspection

echo = bytes
"""Answers what it is asked; ``inspection`` is there for what it imports."""

__all__ = ["echo", "inspection"]
