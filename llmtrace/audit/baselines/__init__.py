"""What a monitor must beat to mean anything: a file and a row of `BASELINES` each."""
