"""metrics.k8s.io/v1: how much pods and nodes use, as in v1beta1, which older clients ask for."""
