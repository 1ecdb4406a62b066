"""The HTTP API over published cubes: OGC API - EDR, and a thousand points at once. See docs/api.md."""
