"""What a person types: parse, call `Lab`, print. Nothing else prints."""
