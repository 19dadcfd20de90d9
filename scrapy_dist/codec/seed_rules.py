"""What seeds may ask for, by the settings and the spider."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from scrapy_dist import defaults
from scrapy_dist.base.escaping import quote
from scrapy_dist.base.settings import flag, number, schemes, texts
from scrapy_dist.codec.reach import flaw_of_host, host_of, is_within
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings

#: ``meta`` keys by which a seed would steer Scrapy itself; STEERING_PREFIXES are those of
#: others. Left free are cookiejar, dont_cache, dont_merge_cookies, dont_redirect,
#: dont_retry and priority_adjust, which concern the seed's own request only.
STEERING_META = frozenset(
    {
        # Where the connection goes, and who it claims to be.
        *("bindaddress", "proxy", "verbatim_url", "is_secure", "referrer_policy"),
        *("http_auth_domain", "http_pass", "http_user", "ftp_password", "ftp_user"),
        # Politeness and limits.
        *("allow_offsite", "dont_obey_robotstxt", "download_slot", "download_maxsize"),
        *("download_warnsize", "download_latency", "autothrottle_dont_adjust_delay"),
        # Files, and trust in the response.
        *("ftp_local_filename", "ftp_passive", "cached_response", "cache_timestamp"),
        *("download_fail_on_dataloss", "verify"),
        *("handle_httpstatus_all", "handle_httpstatus_list"),
        # Scrapy's own bookkeeping, and ours.
        *("depth", "depth_reset", "is_start_request", "rule", "retry_times"),
        *("redirect_reasons", "redirect_times", "redirect_ttl", "redirect_urls"),
        "frontier_local",
    }
)

#: ``meta`` keys with limits that seeds may set, and the largest of each: seconds, times.
#: Without a bound one seed could hold a place of the downloader for days.
BOUNDED_META = {"download_timeout": 3600.0, "max_retry_times": 100}

#: What the names of ``meta`` keys of plugins begin with: they have pages rendered by other
#: programs, run scripts there, or choose who a connection claims to be. And of our own.
STEERING_PREFIXES = (
    *("_", "frontier_"),
    *("browserless", "camoufox", "nodriver", "playwright", "puppeteer", "pyppeteer"),
    *("selenium", "splash", "undetected"),
    *("crawlera", "flaresolverr", "scrapingbee", "scrapeops", "scrapfly", "zyte_api"),
    *("curl", "impersonate"),
)
#: What stands for a spider's domains in FRONTIER_SEED_DOMAINS.
SPIDERS = "allowed_domains"
#: All of ASCII; and what encodings are called in which its bytes may be something else,
#: behind a shift or a backslash.
_ASCII = "".join(map(chr, range(128)))
_SHIFTING = ("hz", "iso2022", "raw_unicode_escape", "utf_7")
#: A host as ``host_of`` gives it.
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+")
_NO_DOMAIN = re.compile(r"[/@?#\\\s]|^[^\[]*:")


@dataclass(frozen=True)
class SeedRules:
    """What a seed may be; the settings FRONTIER_SEED_… and REDIS_ENCODING."""

    #: URL schemes, in lower case.
    schemes: frozenset[str] = frozenset(defaults.FRONTIER_SEED_SCHEMES)
    #: Bytes of the largest seed.
    max_size: int = defaults.FRONTIER_SEED_MAX_SIZE
    #: Characters of the longest URL.
    max_url: int = defaults.FRONTIER_URL_LENGTH
    #: Keys of STEERING_META that seeds may set all the same.
    meta: frozenset[str] = frozenset(defaults.FRONTIER_SEED_META)
    #: Whether unknown keys are form fields.
    form_fields: bool = defaults.FRONTIER_SEED_FORM_FIELDS
    #: Encoding of the seeds.
    encoding: str = defaults.REDIS_ENCODING
    #: Domains that seeds may name, in the form of ``host_of``; none: any.
    domains: frozenset[str] = frozenset()
    #: Whether the spider's ``allowed_domains`` are domains, too.
    spiders_domains: bool = False
    #: Whether private addresses may be reached.
    private: bool = defaults.FRONTIER_SEED_PRIVATE

    @classmethod
    def from_settings(
        cls, settings: BaseSettings, encoding: str | None = None
    ) -> SeedRules:
        """Read the settings; *encoding* is the spider's ``redis_encoding``, if any.

        Raises ConfigurationError.
        """
        domains = frozenset(_read_domains(settings))
        return cls(
            schemes=schemes(settings, "FRONTIER_SEED_SCHEMES"),
            max_size=int(number(settings, "FRONTIER_SEED_MAX_SIZE", least=1)),
            max_url=int(number(settings, "FRONTIER_URL_LENGTH", least=1)),
            meta=frozenset(texts(settings, "FRONTIER_SEED_META")),
            form_fields=flag(settings, "FRONTIER_SEED_FORM_FIELDS"),
            encoding=_read_encoding(settings, encoding),
            domains=domains - {SPIDERS},
            spiders_domains=SPIDERS in domains,
            private=flag(settings, "FRONTIER_SEED_PRIVATE"),
        )

    @property
    def is_limited(self) -> bool:
        """Whether hosts are looked at."""
        return bool(self.domains) or self.spiders_domains or not self.private

    def domains_of(self, spider: object) -> frozenset[str]:
        """The domains that seeds of *spider* may name; none: any, or not known here."""
        if not self.spiders_domains:
            return self.domains
        own = own_domains(spider)
        return self.domains | own if own else own

    def flaw_of(self, url: str, spider: object) -> str:
        """Why a seed may not lead to *url*, as far as that can be told unresolved; or ''."""
        if not self.is_limited:
            return ""
        host = host_of(url)
        if host and not _HOST.fullmatch(host):
            # Another reader of the URL may find a host in front of the strange sign.
            return f"the host {quote(host)} is no name of one"
        domains = self.domains_of(spider)
        if domains and not is_within(host, domains):
            return (
                f"the host {quote(host)} is not allowed; FRONTIER_SEED_DOMAINS allows"
                f" {', '.join(sorted(domains)[:10])}"
            )
        if not self.private and (flaw := flaw_of_host(host)):
            return f"the host {quote(host)} {flaw}; FRONTIER_SEED_PRIVATE is False"
        return ""


def own_domains(spider: object) -> frozenset[str]:
    own = getattr(spider, "allowed_domains", None) or ()
    return plain_domains(tuple(own) if not isinstance(own, str) else (own,))


@lru_cache(10)
def plain_domains(domains: tuple[str, ...]) -> frozenset[str]:
    return frozenset(host_of(f"//{domain}") for domain in domains if domain)


@lru_cache(100)
def is_encoding(name: str) -> bool:
    try:
        codec = codecs.lookup(name)
        "".encode(name)  # refuses codecs such as base64
    except (LookupError, ValueError):
        return False
    if codec.name.replace("-", "_").startswith(_SHIFTING):
        return False
    try:
        # What is checked as text is what the bytes are; others are slow, too.
        return _ASCII.encode(name) == _ASCII.encode("ascii")
    except UnicodeError:
        return False


def _read_encoding(settings: BaseSettings, own: str | None) -> str:
    setting = "redis_encoding" if own else "REDIS_ENCODING"
    value = own or settings.get("REDIS_ENCODING", defaults.REDIS_ENCODING)
    if not isinstance(value, str) or not is_encoding(value):
        raise ConfigurationError(
            f"{setting} = {value!r} is no text encoding that contains ASCII. Write e.g."
            " 'utf-8'."
        )
    return value


def _read_domains(settings: BaseSettings) -> list[str]:
    domains = []
    for value in texts(settings, "FRONTIER_SEED_DOMAINS"):
        host = value if value == SPIDERS else host_of(f"//{value.lstrip('.')}")
        if not _HOST.fullmatch(host) or _NO_DOMAIN.search(value):
            raise ConfigurationError(
                f"FRONTIER_SEED_DOMAINS: {value!r} is no domain. Write names such as"
                " 'example.org', without scheme, port and path, or 'allowed_domains'."
            )
        domains.append(host)
    return domains
