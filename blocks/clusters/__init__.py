"""Dask clusters that live as long as a run: one file each, one protocol (see `protocol`)."""
