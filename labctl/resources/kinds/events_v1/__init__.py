"""events.k8s.io/v1: Events under their newer name."""
