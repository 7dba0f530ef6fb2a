"""Measuring: the load program, the records of its requests, and the join of those with the journal and with a fault. Pure functions over values."""
