"""Circuits that people wrote down: one YAML file, one row of `DEFINITIONS` (circuits/rows.py)."""
