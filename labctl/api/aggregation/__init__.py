"""Aggregation: API servers of others, behind Services of the lab, whose groups this API serves as its own. `aggregation.py` has the picture."""
