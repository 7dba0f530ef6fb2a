"""The kinds of apps/v1: workloads that are rolled out."""
