"""What each generated token takes from the tokens before it."""
