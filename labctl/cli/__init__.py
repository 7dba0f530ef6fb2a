"""The commands that a person types. A command parses its words, calls `Lab` and prints the result; no other room prints."""
