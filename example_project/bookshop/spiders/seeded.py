from bookshop.items import Book
from scrapy_dist.spiders import RedisSpider


class SeededSpider(RedisSpider):
    """Waits for addresses of shelves and books that anybody pushes to Redis.

    ``scrapy frontier seed seeded http://127.0.0.1:8000/category/poetry/``
    """

    name = "seeded"
    allowed_domains = ["127.0.0.1"]

    def parse(self, response):
        if response.css(".product"):
            yield Book.from_response(response)
        yield from response.follow_all(css=".book a, .pager .next")
