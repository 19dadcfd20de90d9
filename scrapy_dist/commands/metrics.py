"""Serve the state of crawls to Prometheus, at http://HOST:PORT/metrics, until Ctrl-C or
SIGTERM. Redis is asked when Prometheus asks, at most once a second. Without SPIDER these
are all crawls that Redis knows, looked for every 30 seconds; with it, the named ones, also
while there is nothing of them in Redis.

While Redis is away the answer is scrapy_frontier_redis_up 0.
Needs prometheus-client: pip install "scrapy-dist[metrics]"

Exit code: 0 ended as asked, 1 with --once when Redis is away, 2 it could not begin.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from scrapy.utils.project import inside_project

from scrapy_dist.commands import base, options, project
from scrapy_dist.commands.serving import is_local, serve
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from scrapy_dist.redis_client.client import describe

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from scrapy.settings import Settings

    from scrapy_dist.admin.metrics import Reading, Watch

_HOST, _PORT = "127.0.0.1", 9410
#: Hosts of a crawl with a series of their own, and at the most.
_HOSTS, _MOST_HOSTS = 20, 1000
#: Seconds that an answer to Prometheus may take; a reading takes less.
_TIMEOUT = 10.0


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port, which is 0 to 65535")
    return number


async def _run(settings: Settings, opts: base.Namespace) -> int:
    try:
        from scrapy_dist.admin import metrics  # noqa: PLC0415
    except ModuleNotFoundError as e:
        if e.name is None or e.name.split(".")[0] != "prometheus_client":
            raise
        raise ConfigurationError(
            "The metrics need the package prometheus-client, which is not installed:"
            ' pip install "scrapy-dist[metrics]"'
        ) from e
    everything = None if opts.spiders else project.all_crawls(settings, opts)
    named = [
        project.find_crawl(
            settings.copy(), base.Namespace(**{**vars(opts), "spider": name})
        )
        for name in dict.fromkeys(opts.spiders)
    ]

    async def find() -> Sequence[project.Crawl]:
        if everything is not None:
            crawls = await everything.find(begun=True)
            # Those of the project first: whoever writes into Redis can make up others.
            return sorted(crawls, key=lambda crawl: crawl.project is None)
        for crawl in named:
            await crawl.open()
        return named

    async with AsyncExitStack() as stack:
        for each in (everything, *named):
            if each is not None:
                stack.push_async_callback(each.close)
        # What is wrong with the settings ends it; it is for Redis to come and go.
        with suppress(RedisUnavailable):
            for crawl in await find():
                if inside_project() and opts.spiders:
                    await crawl.require_known()
        tell = partial(base.warn, "metrics")
        watch = metrics.Watch(find, tell, hosts=opts.hosts)
        if opts.once:
            return await _print(watch)
        await _serve(watch, opts.host, opts.port, describe(settings))
    return base.OK


async def _print(watch: Watch) -> int:
    from prometheus_client import generate_latest  # noqa: PLC0415

    reading = await watch.read()
    told = generate_latest(_registry(lambda: reading)).decode()
    base.write(*told.rstrip("\n").split("\n"))
    return base.OK if reading.up else base.TROUBLE


def _registry(read: Callable[[], Reading]) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    from scrapy_dist.admin.metrics import CrawlsCollector  # noqa: PLC0415

    registry = CollectorRegistry()
    registry.register(CrawlsCollector(read))
    return registry


async def _serve(watch: Watch, host: str, port: int, redis: str) -> None:
    """Answer Prometheus until a signal comes; *redis* is for people."""
    from prometheus_client import make_wsgi_app  # noqa: PLC0415

    loop = asyncio.get_running_loop()

    def read() -> Reading:
        """From a thread of the server."""
        reading = asyncio.run_coroutine_threadsafe(watch.read(), loop)
        return reading.result(_TIMEOUT)

    app = make_wsgi_app(_registry(read))
    shown = f"[{host}]" if ":" in host else host
    with ExitStack() as stack:
        try:
            found = stack.enter_context(serve(app, host, port))
        except OSError as e:
            raise ConfigurationError(
                f"Nothing can be served at {host}:{port}: {e.strerror or e}."
                " Give another --port, or --host."
            ) from e
        stopped = asyncio.Event()
        with base.on_signals(stopped.set, signal.SIGINT, signal.SIGTERM):
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


SUBCOMMAND = base.Subcommand(
    name="metrics",
    summary="serve the state of all crawls to Prometheus",
    description=__doc__,
    example="scrapy frontier metrics --port 9410",
    topic="prometheus",
    options=(
        options.option("spiders", metavar="SPIDER", nargs="*", help="only these"),
        options.REDIS,
        options.option(
            "--job",
            metavar="NAME",
            help="only crawls of that name (the setting FRONTIER_JOB)",
        ),
        options.option(
            "--host",
            default=_HOST,
            help="address to listen at (%(default)s without it, for this machine only);"
            " there is no password, so one that only Prometheus reaches; 0.0.0.0 is all",
        ),
        options.option(
            "--port",
            type=_port,
            default=_PORT,
            help="port to listen at, 0 for any that is free; %(default)s without it",
        ),
        options.option(
            "--hosts",
            metavar="N",
            type=options.number(
                options.whole,
                0,
                _MOST_HOSTS,
                f"is not a number from 0 to {_MOST_HOSTS}",
            ),
            default=_HOSTS,
            help="tell the pending requests of the N largest hosts of each crawl, the"
            f" rest as one; {_HOSTS} without it",
        ),
        options.flag("--once", "print the metrics and end"),
    ),
    run=_run,
)
