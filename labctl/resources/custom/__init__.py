"""Custom kinds: from a CustomResourceDefinition's schema to Kinds that decode, prune, default, validate and print their objects."""
