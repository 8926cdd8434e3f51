"""The service: who may ask (`guard.py`), what is asked (`app.py`), one thread that owns the model (`jobs.py`)."""
