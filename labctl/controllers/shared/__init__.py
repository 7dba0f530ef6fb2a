"""What workload controllers share: ownership of objects, numbers of pods, templates and their history."""
