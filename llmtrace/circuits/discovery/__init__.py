"""Which edges: scores per edge, then a selection. One method, one file, one row of `METHODS` (circuits/rows.py)."""
