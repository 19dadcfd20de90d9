from scrapy import Request
from scrapy.linkextractors import LinkExtractor
from scrapy.spiders import CrawlSpider, Rule

from bookshop.items import DataSheet


class DataSheetsSpider(CrawlSpider):
    """Downloads the PDF data sheets with Scrapy's FilesPipeline.

    ``scrapy crawl datasheets -a site=http://127.0.0.1:8000``
    """

    name = "datasheets"
    allowed_domains = ["127.0.0.1"]
    site = "http://127.0.0.1:8000"

    custom_settings = {
        "FILES_STORE": "results/datasheets/files",
        "ITEM_PIPELINES": {
            "bookshop.pipelines.DataSheetPipeline": 300,
            "scrapy_dist.pipelines.RedisPipeline": 400,
        },
    }

    rules = (
        Rule(LinkExtractor(restrict_css=(".categories", ".pager"))),
        Rule(LinkExtractor(restrict_css=".book"), callback="parse_book"),
    )

    async def start(self):
        yield Request(self.site)

    def parse_book(self, response):
        sheet = response.css("a.datasheet::attr(href)").get()
        if sheet:
            yield DataSheet(
                url=response.url,
                title=response.css("h1::text").get(),
                file_urls=[response.urljoin(sheet)],
            )
