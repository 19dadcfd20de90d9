"""Item pipelines of the bookshop project."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from scrapy.pipelines.files import FilesPipeline


class DataSheetPipeline(FilesPipeline):
    """Scrapy's FilesPipeline; a file keeps the name that it has on the site."""

    def file_path(self, request, response=None, info=None, *, item=None):
        return PurePosixPath(urlsplit(request.url).path).name
