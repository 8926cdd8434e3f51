"""Is the circuit good, whole, stable, the known one - and does it recur?"""
