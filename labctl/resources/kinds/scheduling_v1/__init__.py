"""scheduling.k8s.io/v1: how important pods are."""
