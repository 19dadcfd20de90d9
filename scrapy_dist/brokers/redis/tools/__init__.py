"""Changes of a frontier in Redis, by those who look after it."""
