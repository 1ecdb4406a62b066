"""Exporters that only forecasts can have."""
