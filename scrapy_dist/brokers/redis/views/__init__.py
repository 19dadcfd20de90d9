"""Reads of a frontier in Redis, by those who look from outside."""
