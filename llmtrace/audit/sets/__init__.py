"""Sets of labelled prompts of our own, made by templates: a file and a row of `SETS` each."""
