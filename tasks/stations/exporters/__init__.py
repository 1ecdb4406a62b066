"""Exporters of station data, one file each."""
