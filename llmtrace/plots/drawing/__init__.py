"""What drawings share: colours, axes, bars, maps, text made inert."""
