"""resource.k8s.io/v1: devices that pods ask for (dynamic resource allocation)."""
