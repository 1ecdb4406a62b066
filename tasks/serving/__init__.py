"""Serving: points and boxes of published cubes, read fast enough to answer while somebody waits."""
