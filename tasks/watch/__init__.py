"""Watch: when a run, or the part of it that somebody waits for, is complete at the provider - said exactly once."""
