"""Serve the state of crawls to Prometheus, at http://HOST:PORT/metrics, until Ctrl-C or
SIGTERM. Redis is asked when Prometheus asks, at most once a second. Without SPIDER these
are all crawls that Redis knows, looked for every 30 seconds; with it, the named ones, also
while there is nothing of them in Redis.

While Redis is away the answer is scrapy_frontier_redis_up 0.
Needs prometheus-client: pip install "scrapy-dist[metrics]"

Exit code: 0 ended as asked, 1 with --once when Redis is away, 2 it could not begin.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import TYPE_CHECKING

from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import SEVERAL, flag, listening, option, whole
from scrapy_dist.commands.serving import cannot_serve, is_local, serve
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.client import describe

if TYPE_CHECKING:
    from types import ModuleType

    from scrapy.settings import Settings

    from scrapy_dist.admin.metrics import Reading, Watch

_PORT = 9410
#: Hosts of a crawl with a series of their own, and at the most.
_HOSTS, _MOST_HOSTS = 20, 1000
#: Seconds that an answer to Prometheus may take; a reading takes less.
_TIMEOUT = 10.0


async def _run(settings: Settings, opts: base.Namespace) -> int:
    metrics = find_metrics()
    if metrics is None:
        raise ConfigurationError(
            "The metrics need the package prometheus-client, which is not installed:"
            ' pip install "scrapy-dist[metrics]"'
        )
    chosen = project.Chosen(settings, opts)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(chosen.close)
        await chosen.check()
        warn = partial(base.warn, "metrics")
        watch = metrics.Watch(chosen.find, warn, hosts=opts.hosts)
        if opts.once:
            told, is_up = await metrics.exposition(watch)
            base.write(*told.decode().rstrip("\n").split("\n"))
            return base.OK if is_up else base.TROUBLE
        await _serve(watch, opts.host, opts.port, describe(settings))
    return base.OK


def find_metrics() -> ModuleType | None:
    """``admin.metrics``; None: prometheus-client is not installed."""
    try:
        from scrapy_dist.admin import metrics  # noqa: PLC0415
    except ModuleNotFoundError as e:
        if e.name is None or e.name.split(".")[0] != "prometheus_client":
            raise
        return None
    return metrics


async def _serve(watch: Watch, host: str, port: int, redis: str) -> None:
    """Answer Prometheus until a signal comes; *redis* is for people."""
    from prometheus_client import make_wsgi_app  # noqa: PLC0415

    from scrapy_dist.admin.metrics import registry  # noqa: PLC0415

    loop = asyncio.get_running_loop()

    def read() -> Reading:
        """From a thread of the server."""
        reading = asyncio.run_coroutine_threadsafe(watch.read(), loop)
        return reading.result(_TIMEOUT)

    app = make_wsgi_app(registry(read))
    shown = f"[{host}]" if ":" in host else host
    with ExitStack() as stack:
        try:
            found = stack.enter_context(serve(app, host, port))
        except OSError as e:
            raise cannot_serve(host, port, e) from e
        with base.asked_to_end() as stopped:
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
        *SEVERAL,
        *listening(_PORT, "there is no password, so one that only Prometheus reaches"),
        option(
            "--hosts",
            "N",
            "tell the pending requests of the N largest hosts of each crawl, the"
            f" rest as one; {_HOSTS} without it",
            type=whole(0, _MOST_HOSTS),
            default=_HOSTS,
        ),
        flag("--once", "print the metrics and end"),
    ),
    run=_run,
)
