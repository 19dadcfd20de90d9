"""One line in settings.py that switches everything on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings


class Addon:
    """``ADDONS = {"scrapy_dist.Addon": 500}``: the scheduler and all that belongs to it.

    Beside the scheduler and its dupefilter it brings what needs a middleware: dead
    letters for failed pages, and items stored together with the ack of their page. A
    project's own DUPEFILTER_CLASS stays, and so does its place for each component.
    """

    def update_settings(self, settings: BaseSettings) -> None:
        # Not before there is a crawl: this imports most of the package.
        from scrapy_dist import middleware  # noqa: PLC0415

        settings.set("SCHEDULER", "scrapy_dist.scheduler.Scheduler", "addon")
        settings.set(
            "DUPEFILTER_CLASS", "scrapy_dist.dupefilter.RFPDupeFilter", "addon"
        )
        # What a project's own middleware answers by itself costs no delay, either.
        places = settings.getdict("DOWNLOADER_MIDDLEWARES").values()
        numbers = [place for place in places if isinstance(place, (int, float))]
        last = max([1_000_000, *(int(place) + 1 for place in numbers)])
        for chain, cls, place in (
            ("SPIDER_MIDDLEWARES", middleware.FrontierSpiderMiddleware, 51),
            ("DOWNLOADER_MIDDLEWARES", middleware.FrontierDownloaderMiddleware, 1),
            ("DOWNLOADER_MIDDLEWARES", middleware.FrontierGateMiddleware, last),
            ("ITEM_PIPELINES", middleware.FrontierPipeline, -1_000_000),
        ):
            settings.setdefault_in_component_priority_dict(chain, cls, place)
