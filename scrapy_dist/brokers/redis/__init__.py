"""The frontier in Redis."""
