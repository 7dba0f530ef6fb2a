"""The kinds of batch/v1: work that ends."""
