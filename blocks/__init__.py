"""Prefect blocks of weatherlake."""
