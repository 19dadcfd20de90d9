"""Serve a page with all crawls, at http://HOST:PORT/, until Ctrl-C or SIGTERM: how far they
are and how fast, workers, hosts, dead letters, the next requests; with buttons that pause,
resume, stop, retry, forget and push seeds. Without SPIDER these are the crawls that Redis
knows and the spiders of the project; with it, the named ones. /metrics is there, too.

On this machine (the default --host) there is no password, unless one is set. For any other
address one is needed: the environment variable FRONTIER_WEB_PASSWORD, the setting of that
name, or --password-file. There is no TLS: let a proxy speak HTTPS in front, and say
--behind-https.
Needs starlette, uvicorn and jinja2: pip install "scrapy-dist[web]"

Exit code: 0 ended as asked, 2 it could not begin.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scrapy_dist import defaults
from scrapy_dist.base.escaping import quote
from scrapy_dist.commands import base, project
from scrapy_dist.commands.metrics import find_metrics
from scrapy_dist.commands.options import SEVERAL, flag, listening, option
from scrapy_dist.commands.serving import cannot_serve, is_local
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.client import describe

if TYPE_CHECKING:
    from scrapy.settings import Settings

_PORT = 8765
_PASSWORD = "FRONTIER_WEB_PASSWORD"  # noqa: S105  its name
#: Bytes of the longest password.
_MAX_PASSWORD = 1024
_PACKAGES = ("starlette", "uvicorn", "jinja2")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?")


async def _run(settings: Settings, opts: base.Namespace) -> int:
    _require_packages()
    password = _password(settings, opts)
    _check(opts, password)
    chosen = project.Chosen(settings, opts, project=True)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(chosen.close)
        await chosen.check()
        await _serve(chosen, opts, password, describe(settings))
    return base.OK


def _require_packages() -> None:
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as e:
            raise ConfigurationError(
                f"The page needs the package {name}, which cannot be imported ({e}):"
                ' pip install "scrapy-dist[web]"'
            ) from None


def _password(settings: Settings, opts: base.Namespace) -> str:
    """The password, '' if there is none. Raises ConfigurationError."""
    if opts.password_file is not None:
        return _password_in(Path(opts.password_file))
    password = settings.get(_PASSWORD, defaults.FRONTIER_WEB_PASSWORD)
    password = password or os.environ.get(_PASSWORD, "")
    if not isinstance(password, str) or len(password) > _MAX_PASSWORD:
        raise ConfigurationError(
            f"{_PASSWORD} is no text of at most {_MAX_PASSWORD} characters."
        )
    return password


def _password_in(path: Path) -> str:
    given = f"--password-file {quote(str(path), 1000)}"
    try:
        with path.open("rb") as file:
            password = file.read(_MAX_PASSWORD + 3).decode().rstrip("\r\n")
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or "it is no UTF-8"
        raise ConfigurationError(f"{given} cannot be read: {why}.") from None
    if not password or len(password) > _MAX_PASSWORD:
        raise ConfigurationError(
            f"{given} has no password in it: one line of at most {_MAX_PASSWORD} characters."
        )
    return password


def _check(opts: base.Namespace, password: str) -> None:
    """Raise ConfigurationError for what is not safe, or no name."""
    if not is_local(opts.host) and not password:
        raise ConfigurationError(
            f"--host {quote(opts.host)} lets other machines reach the page, so it needs a"
            f" password: set {_PASSWORD} in the environment, or give --password-file"
            " FILE. Without --host only this machine reaches it."
        )
    for name in opts.allowed_host:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"--allowed-host {quote(name)} is no name of a host: write it without"
                " scheme and port, for example crawls.example.org."
            )


def _metrics(chosen: project.Chosen) -> Callable[[], Awaitable[bytes]] | None:
    metrics = find_metrics()
    if metrics is None:
        return None
    watch = metrics.Watch(chosen.find, partial(base.warn, "web"))

    async def read() -> bytes:
        told: bytes = (await metrics.exposition(watch))[0]
        return told

    return read


async def _serve(
    chosen: project.Chosen, opts: base.Namespace, password: str, redis: str
) -> None:
    """Show the crawls until a signal comes; *redis* is for people."""
    from scrapy_dist.web.app import make_app  # noqa: PLC0415
    from scrapy_dist.web.rendering import Templates  # noqa: PLC0415
    from scrapy_dist.web.security import Rules, names_of  # noqa: PLC0415
    from scrapy_dist.web.serving import bound, serve  # noqa: PLC0415
    from scrapy_dist.web.site import Site  # noqa: PLC0415

    shown = f"[{opts.host}]" if ":" in opts.host else opts.host
    try:
        listening = bound(opts.host, opts.port)
    except OSError as e:
        raise cannot_serve(shown, opts.port, e) from e
    with listening:
        port = listening.getsockname()[1]
        site = Site(chosen.find, redis, Templates(), read_only=opts.read_only)
        rules = Rules(
            password=password,
            read_only=opts.read_only,
            names=names_of(opts.host, opts.allowed_host),
            any_address=not is_local(opts.host),
            https=opts.behind_https,
            port=port,
        )
        app = make_app(site, rules, metrics=_metrics(chosen))
        with base.asked_to_end() as stopped:
            base.write(f"Page of {redis} at http://{shown}:{port}/; Ctrl-C ends")
            if not is_local(opts.host) and not opts.behind_https:
                base.warn(
                    "web",
                    "The password goes over the network as it is: let a proxy speak HTTPS"
                    " in front, and say --behind-https.",
                )
            serving = asyncio.ensure_future(serve(app, listening, stopped))
            waiting = asyncio.ensure_future(stopped.wait())
            await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
            # Pages that stay up to date end first, so nobody waits for them.
            await site.close()
            stopped.set()
            await serving
            await waiting


SUBCOMMAND = base.Subcommand(
    name="web",
    summary="serve a page with all crawls, for browsers",
    description=__doc__,
    example="scrapy frontier web --port 8765",
    topic="web",
    options=(
        *SEVERAL,
        *listening(_PORT, "any other needs a password"),
        flag("--read-only", "only show: nothing can be changed from the page"),
        option(
            "--password-file",
            "FILE",
            "file with the password in its only line; wins over"
            f" {_PASSWORD} in the settings and in the environment",
        ),
        option(
            "--allowed-host",
            "NAME",
            "a name by which browsers reach the page, besides --host and those of"
            " this machine for itself (may be repeated)",
            action="append",
            default=[],
        ),
        flag(
            "--behind-https",
            "browsers reach the page by HTTPS, through a proxy: cookies are only for that",
        ),
    ),
    run=_run,
)
