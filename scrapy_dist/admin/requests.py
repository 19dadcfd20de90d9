"""Requests that somebody outside of a crawl makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy.http import Request

from scrapy_dist.base.escaping import nearest, quote
from scrapy_dist.codec import compact
from scrapy_dist.codec.envelope import MSGPACK
from scrapy_dist.codec.policy import Policy
from scrapy_dist.core.frontier import NewRequest
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

    from scrapy_dist.admin.project import Naming, Project
    from scrapy_dist.codec.seal import Seal
    from scrapy_dist.queue import Base


@dataclass(frozen=True)
class RequestMaker:
    """Makes requests as the workers of a crawl do, signed with *seal*.

    *project* None: that of the spider is not known here.
    """

    settings: BaseSettings
    discipline: type[Base]
    project: Project | None
    naming: Naming
    seal: Seal

    def make(self, url: str, callback: str | None, priority: int) -> NewRequest:
        """A request for *url*; *callback* is a method of the spider, None: parse.

        Raises ConfigurationError for one that no worker would crawl, as far as is known.
        """
        # Not filtered: what it is redirected to was seen as well.
        request = Request(url, priority=priority, dont_filter=True)
        name = self.naming.fingerprint(Request(url)) if self.naming.filters else ""
        score = self.discipline.score(request)
        if not Policy.from_settings(self.settings).allows(request.url):
            raise ConfigurationError(
                f"{quote(url, 200)[1:-1]}: workers read no requests of this scheme from"
                " Redis. If they are to, add it to FRONTIER_SCHEMES."
            )
        if self.project is None:
            fields: dict[str, Any] = {"url": request.url, "priority": priority}
            fields["dont_filter"] = True
            if callback:
                fields["callback"] = callback
            payload = self.seal.sign(MSGPACK + compact.dumps(fields))
            return NewRequest(payload, score, name)
        spider = self.project.spider
        if callback:
            method = getattr(spider, callback, None)
            if method is None:
                names = [n for n in dir(type(spider)) if n.startswith("parse")]
                raise ConfigurationError(
                    f"The spider {spider.name!r} has no method {callback!r}."
                    f"{nearest(callback, names)}"
                )
            request = request.replace(callback=method)
        try:
            return NewRequest(self.project.codec.encode(request), score, name)
        except ValueError as e:
            raise ConfigurationError(f"{quote(url, 200)[1:-1]}: {e}") from None
