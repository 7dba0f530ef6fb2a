"""batch/v1: work that ends."""
