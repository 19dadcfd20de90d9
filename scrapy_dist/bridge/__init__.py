"""A bridge between a crawl and RabbitMQ: tasks in; items, results and status out."""
