"""apiregistration.k8s.io/v1: which versions of which groups are served, and by whom."""
