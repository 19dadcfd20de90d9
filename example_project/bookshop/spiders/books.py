import scrapy

from bookshop.items import Book


class BooksSpider(scrapy.Spider):
    """Follows the links of the shop from its start page and scrapes every book.

    ``scrapy crawl books -a site=http://127.0.0.1:8000``
    """

    name = "books"
    allowed_domains = ["127.0.0.1"]
    site = "http://127.0.0.1:8000"

    async def start(self):
        yield scrapy.Request(self.site)

    def parse(self, response):
        yield from response.follow_all(css=".categories a", callback=self.parse_list)

    def parse_list(self, response):
        yield from response.follow_all(css=".book a", callback=self.parse_book)
        yield from response.follow_all(css=".pager .next", callback=self.parse_list)

    def parse_book(self, response):
        yield Book.from_response(response)
        yield from response.follow_all(css=".bought a", callback=self.parse_book)
