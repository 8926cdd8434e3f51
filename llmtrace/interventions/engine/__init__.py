"""The engine under every intervention: what is changed, what that costs, how it is run."""
