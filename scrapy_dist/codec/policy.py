"""What a request from Redis may ask a worker to do, whoever has written it there.

Pages are fetched over http and https; other schemes reach files of the worker, or what
only it can reach. So does some of ``meta``. A spider may do all of that with requests of
its own: those stay in the worker that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scrapy_dist import defaults
from scrapy_dist.base.settings import schemes
from scrapy_dist.exceptions import BadPayload, Unserializable

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.settings import BaseSettings

#: ``cause`` of what no setting of the workers would make readable: somebody else wrote
#: it, and one such request after the other says nothing about the code.
POLICY = "policy"

_WEB = ("http://", "https://")
#: Schemes that Scrapy itself can fetch.
_HANDLED = frozenset({"data", "file", "ftp", "http", "https", "s3"})
#: scrapy-playwright, and what was made of it.
_BROWSERS = ("camoufox", "patchright", "playwright")
#: Arguments of curl_cffi that name files of this machine, or another URL.
_CURLS_FILES = frozenset(
    {"cert", "curl_options", "debug", "files", "multipart", "url", "verify"}
)
#: Methods of a browser's page that take names of files, also without saying ``path``.
_FILE_METHODS = frozenset({"route_from_har", "set_input_files"})
#: Arguments of a browser's context that name files or programs of this machine.
_BROWSER_FILES = frozenset(
    {
        *("args", "env", "executable_path", "ignore_default_args"),
        *("artifacts_dir", "downloads_path", "record_har_path", "record_video_dir"),
        *("traces_dir", "user_data_dir", "storage_state", "client_certificates"),
        "firefox_user_prefs",
    }
)


def _names_browser_files(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    found = _BROWSER_FILES & value.keys()
    # The state itself is no file.
    return bool(found) and not (
        found == {"storage_state"} and isinstance(value["storage_state"], Mapping)
    )


def _names_curls_files(value: Any) -> bool:
    """*value* are arguments of curl_cffi, which win over what the request says."""
    return isinstance(value, Mapping) and bool(
        _CURLS_FILES & {k for k, v in value.items() if type(v) is not bool}
    )


def _calls_with_files(value: Any) -> bool:
    """*value* are calls of a page's methods: ``PageMethod`` of scrapy-playwright."""
    calls = value.values() if isinstance(value, Mapping) else value
    return isinstance(calls, Collection) and any(map(_calls_with_file, calls))


def _calls_with_file(call: Any) -> bool:
    method, args = getattr(call, "method", ""), getattr(call, "args", ())
    given = getattr(call, "kwargs", {})
    if not isinstance(given, Mapping) or not isinstance(args, (list, tuple)):
        return True
    if method == "goto":
        return not str(given.get("url", args[0] if args else "")).startswith(_WEB)
    return method in _FILE_METHODS or "path" in given


#: ``meta`` keys by which Scrapy and its plugins reach files or code of the machine, and
#: when they do.
_LOCAL: dict[str, Callable[[Any], bool]] = {
    "ftp_local_filename": lambda value: value is not None,
    "impersonate_args": _names_curls_files,
    "curl": _names_curls_files,
    "curl_cffi_options": _names_curls_files,
    # Any option of libcurl, also what is fetched, and where it is stored.
    "impersonate_curl_options": bool,
    **{f"{name}_context_kwargs": _names_browser_files for name in _BROWSERS},
    **{
        # Code by its name.
        f"{name}_page_init_callback": lambda value: isinstance(value, (str, bytes))
        for name in _BROWSERS
    },
    **{f"{name}_page_methods": _calls_with_files for name in _BROWSERS},
}
_LOCAL_KEYS = frozenset(_LOCAL)


def scheme_of(url: str) -> str:
    """The scheme of *url* in lower case; '' if it has none."""
    try:
        return urlsplit(url).scheme
    except ValueError:
        return url.partition(":")[0].strip().lower()


def local_meta(meta: Mapping[Any, Any]) -> str:
    """The key of *meta* that names files or code of the machine, or ''."""
    return next(
        (key for key, is_local in _LOCAL.items() if is_local(meta.get(key))), ""
    )


@dataclass(frozen=True)
class Policy:
    """*schemes* may be read, beside http and https; *handled* can be fetched at all."""

    schemes: frozenset[str] = frozenset(defaults.FRONTIER_SCHEMES)
    handled: frozenset[str] = _HANDLED

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Policy:
        """FRONTIER_SCHEMES and DOWNLOAD_HANDLERS. Raises ConfigurationError."""
        handlers = settings.getwithbase("DOWNLOAD_HANDLERS")
        return cls(
            schemes(settings, "FRONTIER_SCHEMES"),
            frozenset(scheme for scheme, path in handlers.items() if path is not None),
        )

    def allows(self, url: str) -> bool:
        """Whether the scheme of *url* is http, https or one of FRONTIER_SCHEMES."""
        return url.startswith(_WEB) or scheme_of(url) in (
            "http",
            "https",
            *self.schemes,
        )

    def check_own(self, request: Request) -> None:
        """Raise Unserializable for a request of the spider's that is to stay here."""
        url, meta = request.url, request.meta
        if url.startswith(_WEB) and _LOCAL_KEYS.isdisjoint(meta):
            return  # as nearly all do
        if not self.allows(url):
            scheme = scheme_of(url)
            if scheme in self.handled:
                raise Unserializable(
                    f"its scheme {scheme!r} is neither http nor https. To share such"
                    " requests, which lets everybody who can write to Redis have them"
                    f" fetched, write FRONTIER_SCHEMES = {[*sorted(self.schemes), scheme]!r}",
                    ["FRONTIER_SCHEMES"],
                )
        if key := local_meta(meta):
            raise Unserializable(
                f"its meta[{key!r}] names files or code of this machine",
                [f"meta {key}"],
            )

    def check_read(self, request: Request) -> None:
        """Raise BadPayload for a request that no worker may have from Redis."""
        url, meta = request.url, request.meta
        if url.startswith(_WEB) and _LOCAL_KEYS.isdisjoint(meta):
            return  # as nearly all do
        if not self.allows(url):
            scheme = scheme_of(url)
            reason = (
                f"its scheme {scheme[:40]!r} is not allowed; FRONTIER_SCHEMES allows"
                f" {', '.join(sorted({'http', 'https', *self.schemes}))}"
            )
            if scheme not in self.handled:
                raise BadPayload(reason, cause=POLICY)
            raise BadPayload(
                reason,
                cause=f"scheme {scheme}",
                remedy=f"If the spider makes requests of the scheme {scheme!r}, write"
                f" FRONTIER_SCHEMES = {[*sorted(self.schemes), scheme]!r}; if it does not,"
                " somebody else has written them to Redis: delete them there.",
            )
        if key := local_meta(meta):
            raise BadPayload(
                f"its meta[{key!r}] names files or code of the worker's machine, which"
                " nobody may do from outside",
                cause=POLICY,
            )
