"""What ``Client``, the commands and the metrics do with a crawl."""
