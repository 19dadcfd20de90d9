"""``scrapy frontier metrics``: how crawls stand, for Prometheus."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from scrapy.utils.project import inside_project

from scrapy_dist.commands import base, project
from scrapy_dist.commands.serving import is_local, serve
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.redis_client.client import describe

if TYPE_CHECKING:
    from scrapy.settings import Settings
    from typing_extensions import Self

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.admin.metrics import Reading, Watch

_HOST, _PORT = "127.0.0.1", 9410
#: Seconds that an answer to Prometheus may take; a reading takes less.
_TIMEOUT = 10.0

_DESCRIPTION = """\
Serve the state of crawls to Prometheus, at http://HOST:PORT/metrics, until Ctrl-C or
SIGTERM. Redis is asked when Prometheus asks, at most once a second. Without SPIDER these
are all crawls that Redis knows, looked for every 30 seconds; with it, the named ones, also
while there is nothing of them in Redis.

While Redis is away the answer is scrapy_frontier_redis_up 0.
Needs prometheus-client: pip install "scrapy-dist[metrics]"

Exit code: 0 ended as asked, 1 with --once when Redis is away, 2 it could not begin."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spiders", metavar="SPIDER", nargs="*", help="only these")
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="where Redis is, e.g. redis://host:6379/0; wins over the project's"
        " settings. One with a password is better given as the environment variable"
        " REDIS_URL, which counts where neither this nor a setting says it",
    )
    parser.add_argument(
        "--job",
        metavar="NAME",
        help="only crawls of that name (the setting FRONTIER_JOB)",
    )
    parser.add_argument(
        "--host",
        default=_HOST,
        help="address to listen at (%(default)s without it, for this machine only);"
        " there is no password, so one that only Prometheus reaches; 0.0.0.0 is all",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=_PORT,
        help="port to listen at, 0 for any that is free; %(default)s without it",
    )
    parser.add_argument("--once", action="store_true", help="print the metrics and end")


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port, which is 0 to 65535")
    return number


async def run(settings: Settings, opts: argparse.Namespace) -> int:
    try:
        from scrapy_dist.admin import metrics  # noqa: PLC0415
    except ModuleNotFoundError as e:
        if e.name is None or e.name.split(".")[0] != "prometheus_client":
            raise
        raise ConfigurationError(
            "The metrics need the package prometheus-client, which is not installed:"
            ' pip install "scrapy-dist[metrics]"'
        ) from e
    async with _Crawls(settings, opts) as crawls:
        # What is wrong with the settings ends it; it is for Redis to come and go.
        with suppress(RedisUnavailable):
            for crawl in await crawls.find():
                if inside_project() and opts.spiders:
                    await crawl.require_known()
        watch = metrics.Watch(crawls.find, partial(base.warn, "metrics"))
        if opts.once:
            return await _print(watch)
        await _serve(watch, opts.host, opts.port, describe(settings))
    return base.OK


class _Crawls:
    """Finds the crawls that the options name, or all, and connects to them."""

    def __init__(self, settings: Settings, opts: argparse.Namespace) -> None:
        self._all = None if opts.spiders else project.all_crawls(settings, opts)
        self._named = [
            project.find_crawl(
                settings.copy(), argparse.Namespace(**{**vars(opts), "spider": name})
            )
            for name in dict.fromkeys(opts.spiders)
        ]

    async def find(self) -> Sequence[Crawl]:
        if self._all is not None:
            crawls = await self._all.find(begun=True)
            # Those of the project first: whoever writes into Redis can make up others.
            return sorted(crawls, key=lambda crawl: crawl.project is None)
        for crawl in self._named:
            await crawl.open()
        return self._named

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        for each in (self._all, *self._named):
            if each is not None:
                await each.close()


async def _print(watch: Watch) -> int:
    reading = await watch.read()
    base.write(*_text(reading).rstrip("\n").split("\n"))
    return base.OK if reading.up else base.TROUBLE


def _text(reading: Reading) -> str:
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

    from scrapy_dist.admin.metrics import CrawlsCollector  # noqa: PLC0415

    registry = CollectorRegistry()
    registry.register(CrawlsCollector(lambda: reading))
    return generate_latest(registry).decode()


async def _serve(watch: Watch, host: str, port: int, redis: str) -> None:
    """Answer Prometheus until a signal comes; *redis* is for people."""
    from prometheus_client import CollectorRegistry, make_wsgi_app  # noqa: PLC0415

    from scrapy_dist.admin.metrics import CrawlsCollector  # noqa: PLC0415

    loop = asyncio.get_running_loop()

    def read() -> Reading:
        """From a thread of the server."""
        reading = asyncio.run_coroutine_threadsafe(watch.read(), loop)
        return reading.result(_TIMEOUT)

    registry = CollectorRegistry()
    registry.register(CrawlsCollector(read))
    shown = f"[{host}]" if ":" in host else host
    with ExitStack() as stack:
        try:
            found = stack.enter_context(serve(make_wsgi_app(registry), host, port))
        except OSError as e:
            raise ConfigurationError(
                f"Nothing can be served at {host}:{port}: {e.strerror or e}."
                " Give another --port, or --host."
            ) from e
        with _stop_signal(loop) as stopped:
            base.write(
                f"Metrics of {redis} at http://{shown}:{found}/metrics; Ctrl-C ends"
            )
            if not is_local(host):
                base.warn(
                    "metrics",
                    f"Everybody who reaches {shown}:{found} can read names and figures of"
                    " the crawls: there is no password. Let only Prometheus through.",
                )
            await watch.read()
            await stopped.wait()


@contextmanager
def _stop_signal(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    stopped = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


SUBCOMMAND = base.Subcommand(
    name="metrics",
    summary="serve the state of all crawls to Prometheus",
    description=_DESCRIPTION,
    example="scrapy frontier metrics --port 9410",
    topic="prometheus",
    add_options=add_options,
    run=run,
)
