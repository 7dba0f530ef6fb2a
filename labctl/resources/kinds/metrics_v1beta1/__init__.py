"""metrics.k8s.io/v1beta1: how much pods and nodes use."""
