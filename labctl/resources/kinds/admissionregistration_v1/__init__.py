"""admissionregistration.k8s.io/v1: what people add to admission: policies in CEL, and webhooks."""
