"""Checkers: what must always hold, and what must hold after a calm. Each looks at a World and returns what is wrong, in sentences."""
