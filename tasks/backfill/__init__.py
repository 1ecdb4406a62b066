"""Backfill: a range of runs brought to its end. What is missing, what it will cost, and one run after the other."""
