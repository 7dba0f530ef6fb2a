"""certificates.k8s.io/v1: certificates that somebody asks the lab to sign."""
