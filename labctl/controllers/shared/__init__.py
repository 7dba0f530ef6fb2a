"""What workload controllers share: whose objects, how many pods, from which template."""
