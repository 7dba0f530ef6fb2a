"""Pod security: what a namespace's labels `pod-security.kubernetes.io/...` ask of its pods (Kubernetes' Pod Security Standards)."""
