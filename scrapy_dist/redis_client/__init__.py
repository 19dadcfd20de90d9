"""How a Redis is reached. It knows no frontier."""
