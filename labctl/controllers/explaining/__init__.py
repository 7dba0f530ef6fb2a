"""What `labctl why` says of each kind of object: pure functions of the view, a file for each group of kinds. explain.py puts them together."""
