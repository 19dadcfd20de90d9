"""One line in settings.py that switches everything on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings


class Addon:
    """``ADDONS = {"scrapy_dist.Addon": 500}``: the scheduler and its dupefilter.

    A project's own DUPEFILTER_CLASS stays.
    """

    def update_settings(self, settings: BaseSettings) -> None:
        settings.set("SCHEDULER", "scrapy_dist.scheduler.Scheduler", "addon")
        settings.set(
            "DUPEFILTER_CLASS", "scrapy_dist.dupefilter.RFPDupeFilter", "addon"
        )
