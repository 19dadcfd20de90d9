"""Seeds: a URL or a JSON object that somebody pushed, made into a request.

A seed is input from strangers. Whatever it holds, the outcome is a request that the
rules allow, or BadSeed with a reason that its author understands.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from scrapy.http import FormRequest, Request
from scrapy.spiders import SitemapSpider
from scrapy.utils.misc import load_object

from scrapy_dist import defaults
from scrapy_dist.base.escaping import quote
from scrapy_dist.codec.policy import Policy, local_meta, scheme_of
from scrapy_dist.codec.reach import flaw_of_host, host_of, is_within
from scrapy_dist.codec.request import MAX_PRIORITY, SpiderMethods
from scrapy_dist.codec.sizes import flaw_of_method, flaw_of_url
from scrapy_dist.exceptions import BadSeed, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy import Spider
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings

__all__ = [
    "FROM_SEED",
    "STEERING_META",
    "STEERING_PREFIXES",
    "SeedRules",
    "check_limits",
    "check_made",
    "parse_seed",
]

#: ``meta`` keys by which a seed would steer Scrapy itself: where the connection goes
#: and who it claims to be, politeness and limits, files, trust in the response, and
#: Scrapy's own bookkeeping. STEERING_PREFIXES are those of others. Left free
#: are cookiejar, dont_cache, dont_merge_cookies, dont_redirect, dont_retry and
#: priority_adjust, which concern the seed's own request only.
STEERING_META = frozenset(
    {
        "allow_offsite",
        "autothrottle_dont_adjust_delay",
        "bindaddress",
        "cache_timestamp",
        "cached_response",
        "depth",
        "depth_reset",
        "dont_obey_robotstxt",
        "download_fail_on_dataloss",
        "download_latency",
        "download_maxsize",
        "download_slot",
        "download_timeout",
        "download_warnsize",
        "frontier_local",
        "ftp_local_filename",
        "ftp_passive",
        "ftp_password",
        "ftp_user",
        "handle_httpstatus_all",
        "handle_httpstatus_list",
        "http_auth_domain",
        "http_pass",
        "http_user",
        "is_secure",
        "is_start_request",
        "max_retry_times",
        "proxy",
        "redirect_reasons",
        "redirect_times",
        "redirect_ttl",
        "redirect_urls",
        "referrer_policy",
        "retry_times",
        "rule",
        "verbatim_url",
        "verify",
    }
)

#: What the names of ``meta`` keys of plugins begin with: they have pages rendered by other
#: programs, run scripts there, or choose who a connection claims to be. And of our own.
STEERING_PREFIXES = (
    "_",
    "browserless",
    "camoufox",
    "crawlera",
    "curl",
    "flaresolverr",
    "frontier_",
    "impersonate",
    "nodriver",
    "playwright",
    "puppeteer",
    "pyppeteer",
    "scrapingbee",
    "scrapeops",
    "scrapfly",
    "selenium",
    "splash",
    "undetected",
    "zyte_api",
)
#: ``meta`` key of requests that were made of a seed, while there are limits for them.
FROM_SEED = "frontier_from_seed"
#: What looks at where they lead, and at their redirects.
GUARD = "scrapy_dist.middleware.FrontierDownloaderMiddleware"
#: What stands for a spider's domains in FRONTIER_SEED_DOMAINS.
_SPIDERS = "allowed_domains"

_FIELDS = (
    "url",
    "method",
    "meta",
    "cb_kwargs",
    "headers",
    "cookies",
    "body",
    "formdata",
    "priority",
    "dont_filter",
    "callback",
    "errback",
    "encoding",
    "flags",
)
#: JSON's name of each Python type that it can give.
_JSON_TYPES = {
    dict: "object",
    list: "list",
    str: "string",
    int: "number",
    float: "number",
    bool: "true or false",
    type(None): "null",
}
#: Schemes whose URLs have no host.
_HOSTLESS = frozenset({"about", "data", "file"})
#: All of ASCII; and what encodings are called in which its bytes may be something else,
#: behind a shift or a backslash.
_ASCII = "".join(map(chr, range(128)))
_SHIFTING = ("hz", "iso2022", "raw_unicode_escape", "utf_7")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
#: A header's name (RFC 9110, 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: A URL that needs no closer look than its scheme: urlsplit costs as much as the request.
_PLAIN = re.compile(r"([a-z]+)://[a-z0-9.-]+(?::[0-5]?[0-9]{1,4})?(?:[/?#][!-~]*)?")
#: A host as ``host_of`` gives it.
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+")
_NO_DOMAIN = re.compile(r"[/@?#\\\s]|^[^\[]*:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LINE_BREAK = re.compile(r"[\x00\r\n]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SPACE, _NO_HOST = re.compile(r"\s"), re.compile(r"[\s\\]")
_JSON_START = re.compile(
    r"""[\[{"]|-?[0-9.]+([eE][-+]?[0-9]+)?$|(null|true|false|NaN|-?Infinity)$"""
)


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
        schemes = _read_list(settings, "FRONTIER_SEED_SCHEMES")
        for scheme in schemes:
            if not _SCHEME.fullmatch(scheme):
                raise ConfigurationError(
                    f"FRONTIER_SEED_SCHEMES: {scheme!r} is no URL scheme."
                    " Write names such as 'https', without '://'."
                )
        return cls(
            schemes=frozenset(scheme.lower() for scheme in schemes),
            max_size=_read_size(settings, "FRONTIER_SEED_MAX_SIZE"),
            max_url=_read_size(settings, "FRONTIER_URL_LENGTH", "characters"),
            meta=frozenset(_read_list(settings, "FRONTIER_SEED_META")),
            form_fields=_read_bool(settings, "FRONTIER_SEED_FORM_FIELDS"),
            encoding=_read_encoding(settings, encoding),
            domains=frozenset(_read_domains(settings)) - {_SPIDERS},
            spiders_domains=_SPIDERS in _read_domains(settings),
            private=_read_bool(settings, "FRONTIER_SEED_PRIVATE"),
        )

    @property
    def is_limited(self) -> bool:
        """Whether hosts are looked at."""
        return bool(self.domains) or self.spiders_domains or not self.private

    def domains_of(self, spider: object) -> frozenset[str]:
        """The domains that seeds of *spider* may name; none: any, or not known here."""
        if not self.spiders_domains:
            return self.domains
        own = _own_domains(spider)
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


def parse_seed(data: bytes | str, rules: SeedRules, spider: Spider) -> Request:
    """The request that the seed *data* asks for. Raises BadSeed.

    *spider* resolves the names of callbacks. The request of a bare URL, or of a seed
    that does not say otherwise, has ``dont_filter=True``: a seed pushed twice is
    crawled twice. Without callback, a SitemapSpider's seeds go to its sitemap parser.
    """
    if len(data) > rules.max_size:
        unit = "bytes" if isinstance(data, bytes) else "characters"
        raise BadSeed(
            f"the seed has {len(data)} {unit}; FRONTIER_SEED_MAX_SIZE allows"
            f" {rules.max_size}"
        )
    text = _decode(data, rules.encoding).lstrip("\ufeff").strip()
    seed = _load(text)
    try:
        request = _to_request(seed, rules, spider)
        # What is not ASCII has become longer, and a form has been added.
        _check_length(request.url, rules)
        _check_reach(request.url, rules, spider)
    except BadSeed:
        raise
    except Exception as e:
        raise BadSeed(f"Scrapy refuses the seed: {quote(str(e), 200)}") from e
    return request


def check_made(
    request: Request, rules: SeedRules, policy: Policy, spider: Spider
) -> None:
    """Raise BadSeed for a request that a project's own reader made of a seed.

    It may have what the project's settings allow, and nothing that only the author of
    the seed asks for. While there are limits for hosts, it is marked (``FROM_SEED``).
    """
    if not policy.allows(request.url) and scheme_of(request.url) not in rules.schemes:
        allowed = {"http", "https", *policy.schemes, *rules.schemes}
        raise BadSeed(
            f"the scheme {quote(scheme_of(request.url))} is not allowed; FRONTIER_SCHEMES"
            f" and FRONTIER_SEED_SCHEMES allow {', '.join(sorted(allowed))}:"
            f" {quote(request.url)}"
        )
    _check_local_meta(request.meta, rules)
    if rules.is_limited:
        _check_reach(request.url, rules, spider)
        request.meta[FROM_SEED] = True


def check_limits(spider: Any, crawler: Crawler) -> None:
    """Raise ConfigurationError if the limits for seeds of *spider* could not be kept."""
    rules = getattr(spider, "seed_rules", None)
    if not isinstance(rules, SeedRules) or not rules.is_limited:
        return
    limit = (
        "FRONTIER_SEED_DOMAINS" if rules.private else "FRONTIER_SEED_PRIVATE = False"
    )
    if not spider.seeds_are_leased:
        raise ConfigurationError(
            f"{limit} cannot be kept by {type(spider).__name__}, whose next_requests()"
            " reads seeds by itself: let it call super().next_requests(), or remove the"
            " setting."
        )
    if rules.spiders_domains and not _own_domains(spider):
        raise ConfigurationError(
            "FRONTIER_SEED_DOMAINS names 'allowed_domains', and the spider"
            f" {spider.name!r} has none. Give it some, or name domains."
        )
    if not rules.private and not _has_guard(crawler):
        raise ConfigurationError(
            f"{limit} needs the add-on, ADDONS = {{'scrapy_dist.Addon': 500}}, or its"
            f" middleware: DOWNLOADER_MIDDLEWARES = {{{GUARD!r}: 1}}."
        )


def _has_guard(crawler: Crawler) -> bool:
    chain = crawler.settings.getwithbase("DOWNLOADER_MIDDLEWARES")
    guard = load_object(GUARD)
    for component, place in chain.items():
        if place is not None:
            with suppress(ImportError, NameError, ValueError, TypeError):
                found = load_object(component)
                if isinstance(found, type) and issubclass(found, guard):
                    return True
    return False


def _own_domains(spider: object) -> frozenset[str]:
    own = getattr(spider, "allowed_domains", None) or ()
    return _plain_domains(tuple(own) if not isinstance(own, str) else (own,))


@lru_cache(10)
def _plain_domains(domains: tuple[str, ...]) -> frozenset[str]:
    return frozenset(host_of(f"//{domain}") for domain in domains if domain)


def _check_reach(url: str, rules: SeedRules, spider: Spider) -> None:
    if flaw := rules.flaw_of(url, spider):
        raise BadSeed(f"{flaw}: {quote(url)}")


def _decode(data: bytes | str, encoding: str) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode(encoding)
    except UnicodeError as e:
        raise BadSeed(
            f"the seed is not valid {encoding}, the encoding that REDIS_ENCODING says:"
            f" {quote(data[:80])}"
        ) from e


def _load(text: str) -> dict[str, Any]:
    """The seed as an object; a bare URL is one with the key url only."""
    if not text:
        raise BadSeed("the seed is empty; push a URL or a JSON object with a url")
    if not _JSON_START.match(text):
        _check_bare_url(text)
        return {"url": text}
    try:
        seed = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise BadSeed(f"the JSON is nested too deep: {quote(text)}") from None
    except BadSeed:
        raise
    except ValueError as e:
        raise BadSeed(f"the JSON is broken: {e}: {quote(text)}") from None
    if type(seed) is not dict:
        raise BadSeed(
            f"the seed is a JSON {_JSON_TYPES[type(seed)]}; push a URL or a JSON object"
            f" with a url: {quote(text)}"
        )
    _check_unicode(seed)
    return seed


def _check_bare_url(text: str) -> None:
    if _SPACE.search(text) or _CONTROL.search(text):
        raise BadSeed(
            "the seed is neither a URL nor JSON: it has spaces or control characters:"
            f" {quote(text)}"
        )
    if _SURROGATE.search(text):
        raise BadSeed(f"the seed is not valid Unicode: {quote(text)}")


def _check_length(url: str, rules: SeedRules) -> None:
    if flaw := flaw_of_url(url, rules.max_url):
        raise BadSeed(f"the url {flaw}: {quote(url)}")


def _check_url(url: str, rules: SeedRules) -> None:
    _check_length(url, rules)
    plain = _PLAIN.fullmatch(url)
    if plain is not None and plain[1] in rules.schemes:
        return
    if _CONTROL.search(url):
        raise BadSeed(f"the url has control characters: {quote(url)}")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises ValueError
    except ValueError:
        raise BadSeed(f"the url has no valid host or port: {quote(url)}") from None
    if not parts.scheme:
        raise BadSeed(f"the url has no scheme, such as https://: {quote(url)}")
    if parts.scheme not in rules.schemes:
        raise BadSeed(
            f"the scheme {quote(parts.scheme)} is not allowed; FRONTIER_SEED_SCHEMES"
            f" allows {', '.join(sorted(rules.schemes)) or 'none'}: {quote(url)}"
        )
    if parts.scheme in _HOSTLESS:
        return
    if not host or _NO_HOST.search(parts.netloc):
        raise BadSeed(f"the url has no valid host: {quote(url)}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise BadSeed(f"the JSON has the key {quote(key)} twice")
        result[key] = value
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadSeed(f"the number {quote(text)} is too large")
    return number


def _no_constant(name: str) -> None:
    raise BadSeed(f"{name} is no JSON")


def _check_unicode(seed: dict[str, Any]) -> None:
    try:
        json.dumps(seed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadSeed("the seed has text that is not valid Unicode") from None
    except RecursionError:
        raise BadSeed("the JSON is nested too deep") from None


def _to_request(seed: dict[str, Any], rules: SeedRules, spider: Spider) -> Request:
    form_fields = {key: seed[key] for key in seed if key not in _FIELDS}
    if form_fields and not rules.form_fields:
        raise BadSeed(
            f"the seed has the unknown key {quote(min(form_fields))}; known are"
            f" {', '.join(_FIELDS)} (form fields go into formdata;"
            " FRONTIER_SEED_FORM_FIELDS makes them of unknown keys)"
        )
    if "url" not in seed:
        raise BadSeed(f"the seed has no url: {quote(seed)}")
    kwargs = {n: _READERS[n](n, value) for n, value in seed.items() if n in _READERS}
    kwargs.setdefault("dont_filter", True)
    _check_url(kwargs["url"], rules)
    _check_meta(kwargs.get("meta", {}), rules)
    kwargs.update(_find_methods(seed, spider))
    if "formdata" not in seed and not form_fields:
        return Request(**kwargs)
    if "body" in seed:
        raise BadSeed("the seed has both a body and form fields; leave one out")
    kwargs.setdefault("method", "POST" if "formdata" in seed else "GET")
    return _form_request(kwargs, _read_form(seed.get("formdata", {}), form_fields))


def _form_request(kwargs: dict[str, Any], pairs: list[tuple[str, str]]) -> Request:
    method = kwargs["method"].upper()
    if method == "POST":
        return FormRequest(formdata=pairs, **kwargs)
    if method != "GET":
        raise BadSeed(f"form fields go with GET or POST, not with {quote(method)}")
    # FormRequest would drop the query that the URL has already.
    parts = urlsplit(kwargs["url"])
    added = urlencode(pairs, encoding=kwargs.get("encoding", "utf-8"))
    query = "&".join(filter(None, (parts.query, added)))
    return FormRequest(**{**kwargs, "url": urlunsplit(parts._replace(query=query))})


def _check_meta(meta: dict[str, Any], rules: SeedRules) -> None:
    for key in meta:
        if key in rules.meta:
            continue
        if key in STEERING_META or key.lower().startswith(STEERING_PREFIXES):
            raise BadSeed(
                f"the meta key {quote(key)} steers Scrapy or a plugin;"
                " FRONTIER_SEED_META does not allow it"
            )


def _check_local_meta(meta: dict[str, Any], rules: SeedRules) -> None:
    key = local_meta(meta)
    if key and key not in rules.meta:
        raise BadSeed(
            f"the meta key {quote(key)} names files or code of this machine;"
            " FRONTIER_SEED_META does not allow it"
        )


def _find_methods(seed: dict[str, Any], spider: Spider) -> dict[str, Any]:
    found: dict[str, Any] = {}
    to_sitemap = "callback" not in seed and isinstance(spider, SitemapSpider)
    if not (to_sitemap or "callback" in seed or "errback" in seed):
        return found
    methods = SpiderMethods(spider)
    for name in ("callback", "errback"):
        if name not in seed:
            continue
        try:
            found[name] = methods.method(_text(name, seed[name]))
        except BadSeed:
            raise
        except ValueError as e:
            raise BadSeed(f"the {name} is not allowed: {e}") from None
    if to_sitemap:
        found["callback"] = methods.method("_parse_sitemap")
    return found


def _wrong(name: str, value: Any, wanted: str) -> BadSeed:
    return BadSeed(
        f"{name} is a JSON {_JSON_TYPES[type(value)]}, not {wanted}: {quote(value)}"
    )


def _text(name: str, value: Any) -> str:
    if type(value) is not str:
        raise _wrong(name, value, "a string")
    return value


def _url(name: str, value: Any) -> str:
    return _text(name, value).strip()


def _line(name: str, value: Any) -> str:
    if _LINE_BREAK.search(_text(name, value)):
        raise BadSeed(f"{name} has a line break: {quote(value)}")
    return str(value)


def _method(name: str, value: Any) -> str:
    if flaw := flaw_of_method(_text(name, value)):
        raise BadSeed(f"{name} {flaw}: {quote(value)}")
    return str(value)


def _token(name: str, value: Any) -> str:
    if not _TOKEN.fullmatch(_text(name, value)):
        raise BadSeed(f"{name} is not valid in HTTP: {quote(value)}")
    return str(value)


def _object(name: str, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise _wrong(name, value, "an object")
    return value


def _flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong(name, value, "true or false")
    return value


def _priority(name: str, value: Any) -> int:
    if type(value) is not int:
        raise _wrong(name, value, "a whole number")
    if abs(value) > MAX_PRIORITY:
        raise BadSeed(f"{name} is beyond 2**53")
    return value


def _texts(name: str, value: Any) -> list[str]:
    if type(value) is not list:
        raise _wrong(name, value, "a list of strings")
    return [_text(f"an element of {name}", element) for element in value]


def _encoding(name: str, value: Any) -> str:
    if not _is_encoding(_text(name, value)):
        raise BadSeed(f"{name} is no text encoding that contains ASCII: {quote(value)}")
    return str(value)


def _headers(name: str, value: Any) -> dict[str, list[str]]:
    headers = {}
    for key, values in _object(name, value).items():
        where = f"the header {quote(_token('a name in headers', key))}"
        listed = values if type(values) is list else [values]
        headers[key] = [_line(where, element) for element in listed]
    return headers


def _cookies(name: str, value: Any) -> dict[str, Any] | list[dict[str, Any]]:
    if type(value) is dict:
        for key, part in value.items():
            _scalar(f"the cookie {quote(_line('the name of a cookie', key))}", part)
        return value
    if type(value) is not list:
        raise _wrong(name, value, "an object or a list of objects")
    for cookie in value:
        _object(f"an element of {name}", cookie)
        if "name" not in cookie or "value" not in cookie:
            raise BadSeed(f"a cookie has no name or no value: {quote(cookie)}")
        for key, part in cookie.items():
            _scalar(f"{quote(key)} of a cookie", part)
    return value


def _scalar(name: str, value: Any) -> str:
    if type(value) in (int, float, bool):
        return str(value)
    if type(value) is not str:
        raise _wrong(name, value, "a string or a number")
    return _line(name, value)


def _read_form(formdata: Any, more: dict[str, Any]) -> list[tuple[str, str]]:
    if type(formdata) is dict:
        items = list(formdata.items())
    elif type(formdata) is list:
        items = [_pair(element) for element in formdata]
    else:
        raise _wrong("formdata", formdata, "an object or a list of pairs")
    return [
        (key, _form_value(key, value))
        for key, values in (*items, *more.items())
        for value in (values if type(values) is list else [values])
    ]


def _pair(element: Any) -> tuple[str, Any]:
    if type(element) is not list or len(element) != 2:
        raise BadSeed(f"formdata has an element that is no pair: {quote(element)}")
    return _text("a name in formdata", element[0]), element[1]


def _form_value(key: str, value: Any) -> str:
    if type(value) in (int, float):
        return str(value)
    return _text(f"the form field {quote(key)}", value)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "url": _url,
    "method": _method,
    "meta": _object,
    "cb_kwargs": _object,
    "headers": _headers,
    "cookies": _cookies,
    "body": _text,
    "priority": _priority,
    "dont_filter": _flag,
    "encoding": _encoding,
    "flags": _texts,
}


@lru_cache(100)
def _is_encoding(name: str) -> bool:
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
    if not isinstance(value, str) or not _is_encoding(value):
        raise ConfigurationError(
            f"{setting} = {value!r} is no text encoding that contains ASCII. Write e.g."
            " 'utf-8'."
        )
    return value


def _read_list(settings: BaseSettings, name: str) -> list[str]:
    value = settings.get(name, getattr(defaults, name))
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(
        isinstance(part, str) for part in value
    ):
        raise ConfigurationError(
            f"{name} = {value!r} is no list of strings. Write e.g. ['a', 'b'] or 'a,b'."
        )
    return list(value)


def _read_domains(settings: BaseSettings) -> list[str]:
    domains = []
    for value in _read_list(settings, "FRONTIER_SEED_DOMAINS"):
        host = value if value == _SPIDERS else host_of(f"//{value.lstrip('.')}")
        if not _HOST.fullmatch(host) or _NO_DOMAIN.search(value):
            raise ConfigurationError(
                f"FRONTIER_SEED_DOMAINS: {value!r} is no domain. Write names such as"
                " 'example.org', without scheme, port and path, or 'allowed_domains'."
            )
        domains.append(host)
    return domains


def _read_size(settings: BaseSettings, name: str, unit: str = "bytes") -> int:
    value = settings.get(name, getattr(defaults, name))
    try:
        size = int(value)
    except (TypeError, ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise ConfigurationError(
            f"{name} = {value!r} is no number of {unit} above 0."
            f" Write e.g. {getattr(defaults, name)}."
        )
    return size


def _read_bool(settings: BaseSettings, name: str) -> bool:
    try:
        return settings.getbool(name, getattr(defaults, name))
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{name} = {settings.get(name)!r} is neither true nor false."
            " Write True or False."
        ) from None
