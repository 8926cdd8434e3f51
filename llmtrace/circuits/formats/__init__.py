"""Files of other programs: one format, one file, one row of `FORMATS` (circuits/rows.py)."""
