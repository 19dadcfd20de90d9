"""Requests and seeds as bytes, and back. What is read is untrusted."""
