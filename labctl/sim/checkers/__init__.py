"""Checkers: what must always hold, and what must hold once all is calm. Each looks at a World and answers what is wrong, in sentences."""
