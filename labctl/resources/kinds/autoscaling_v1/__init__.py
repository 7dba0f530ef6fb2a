"""autoscaling/v1: HorizontalPodAutoscalers as they were first."""
