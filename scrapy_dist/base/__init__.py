"""What every part may use: waits, moments, escaping, folders. It knows nothing of frontiers."""
