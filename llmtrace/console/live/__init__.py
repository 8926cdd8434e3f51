"""Views that a loaded model gives, one in each file; `source.py` puts a run's edits on and asks them."""
