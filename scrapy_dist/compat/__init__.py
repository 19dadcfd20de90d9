"""How code that was written for scrapy-redis acts here."""
