"""flowcontrol.apiserver.k8s.io/v1: whose requests wait when a server has too many."""
