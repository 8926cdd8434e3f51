"""What attention brings from each source token: writes, how near they are, the walk along them."""
