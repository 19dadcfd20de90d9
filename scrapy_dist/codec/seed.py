"""Seeds: a URL or a JSON object that somebody pushed, made into a request.

A seed is input from strangers. Whatever it holds, the outcome is a request that the
rules allow, or BadSeed with a reason that its author understands.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from scrapy.http import FormRequest, Request
from scrapy.spiders import SitemapSpider
from scrapy.utils.misc import load_object

from scrapy_dist.base.escaping import quote
from scrapy_dist.codec.callbacks import SpiderMethods
from scrapy_dist.codec.policy import Policy, local_meta, scheme_of
from scrapy_dist.codec.seed_fields import (
    FIELDS,
    JSON_TYPES,
    READERS,
    TASK_FIELDS,
    _text,
    read_form,
    read_task_fields,
)
from scrapy_dist.codec.seed_rules import (
    BOUNDED_META,
    STEERING_META,
    STEERING_PREFIXES,
    SeedRules,
    own_domains,
)
from scrapy_dist.codec.sizes import flaw_of_url
from scrapy_dist.exceptions import BadSeed, ConfigurationError

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.crawler import Crawler

#: ``meta`` key of requests that were made of a seed, while there are limits for them.
FROM_SEED = "frontier_from_seed"
#: What looks at where they lead, and at their redirects.
GUARD = "scrapy_dist.middleware.FrontierDownloaderMiddleware"
#: Schemes whose URLs have no host.
_HOSTLESS = frozenset({"about", "data", "file"})
#: A URL that needs no closer look than its scheme: urlsplit costs as much as the request.
_PLAIN = re.compile(r"([a-z]+)://[a-z0-9.-]+(?::[0-5]?[0-9]{1,4})?(?:[/?#][!-~]*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SPACE, _NO_HOST = re.compile(r"\s"), re.compile(r"[\s\\]")
_JSON_START = re.compile(
    r"""[\[{"]|-?[0-9.]+([eE][-+]?[0-9]+)?$|(null|true|false|NaN|-?Infinity)$"""
)


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
    seed = load(decode(data, rules.encoding))
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
    key = local_meta(request.meta)
    if key and key not in rules.meta:
        raise BadSeed(
            f"the meta key {quote(key)} names files or code of this machine;"
            " FRONTIER_SEED_META does not allow it"
        )
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
    if rules.spiders_domains and not own_domains(spider):
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


def _check_reach(url: str, rules: SeedRules, spider: Spider) -> None:
    if flaw := rules.flaw_of(url, spider):
        raise BadSeed(f"{flaw}: {quote(url)}")


def decode(data: bytes | str, encoding: str) -> str:
    """The text of a seed. Raises BadSeed."""
    if isinstance(data, str):
        return data
    try:
        return data.decode(encoding)
    except UnicodeError as e:
        raise BadSeed(
            f"the seed is not valid {encoding}, the encoding that REDIS_ENCODING says:"
            f" {quote(data[:80])}"
        ) from e


def load(text: str, *, numbers: type[str] | None = None) -> dict[str, Any]:
    """The seed as an object; a bare URL is one with the key url only. Raises BadSeed.

    *numbers*: what they become, if they are to stay as they were written.
    """
    text = text.lstrip("\ufeff").strip()
    if not text:
        raise BadSeed("the seed is empty; push a URL or a JSON object with a url")
    if not _JSON_START.match(text):
        _check_bare_url(text)
        return {"url": text}
    try:
        seed = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=numbers or _finite,
            parse_int=numbers,
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
            f"the seed is a JSON {JSON_TYPES[type(seed)]}; push a URL or a JSON object"
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
    form_fields = _form_fields(seed, rules)
    if "url" not in seed:
        raise BadSeed(f"the seed has no url: {quote(seed)}")
    kwargs = {n: READERS[n](n, value) for n, value in seed.items() if n in READERS}
    kwargs.setdefault("dont_filter", True)
    _check_url(kwargs["url"], rules)
    _check_meta(kwargs.get("meta", {}), rules)
    kwargs.update(_find_methods(seed, spider))
    if "formdata" not in seed and not form_fields:
        return Request(**kwargs)
    if "body" in seed:
        raise BadSeed("the seed has both a body and form fields; leave one out")
    kwargs.setdefault("method", "POST" if "formdata" in seed else "GET")
    return _form_request(kwargs, read_form(seed.get("formdata", {}), form_fields))


def _form_fields(seed: dict[str, Any], rules: SeedRules) -> dict[str, Any]:
    """The keys that are form fields, where unknown ones are. Raises BadSeed."""
    if rules.form_fields:
        # Which of these are a task's was looked at before: see seed_tasks.
        known = [key for key in FIELDS if key not in TASK_FIELDS]
        return {key: seed[key] for key in seed if key not in known}
    if unknown := seed.keys() - set(FIELDS):
        raise BadSeed(
            f"the seed has the unknown key {quote(min(unknown))}; known are"
            f" {', '.join(FIELDS)} (form fields go into formdata;"
            " FRONTIER_SEED_FORM_FIELDS makes them of unknown keys)"
        )
    if not seed.keys().isdisjoint(TASK_FIELDS):
        read_task_fields(seed)
    return {}


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
    for key, value in meta.items():
        if key in rules.meta:
            continue
        if key in STEERING_META or key.lower().startswith(STEERING_PREFIXES):
            raise BadSeed(
                f"the meta key {quote(key)} steers Scrapy or a plugin;"
                " FRONTIER_SEED_META does not allow it"
            )
        if key in BOUNDED_META:
            _check_bounded(key, value)


def _check_bounded(key: str, value: Any) -> None:
    most = BOUNDED_META[key]
    if key == "download_timeout":
        is_good = type(value) in (int, float) and 0 < value <= most
        wanted = f"a number of seconds above 0, up to {most:g}"
    else:
        is_good = type(value) is int and 0 <= value <= most
        wanted = f"a whole number from 0 to {most:g}"
    if not is_good:
        raise BadSeed(
            f"the meta key {quote(key)} is not {wanted} (FRONTIER_SEED_META would allow"
            f" any): {quote(value)}"
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
