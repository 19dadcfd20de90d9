"""A frontier in this process, for tests and for trying out; see ``REDIS_URL``."""
