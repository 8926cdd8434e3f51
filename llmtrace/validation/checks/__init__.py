"""The check of a score, step by step: things taken out of a run, and orders held against what that did."""
