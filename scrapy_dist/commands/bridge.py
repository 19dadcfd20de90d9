"""Let RabbitMQ give tasks to the crawl of SPIDER, and get what comes of them, until Ctrl-C
or SIGTERM. A message is a URL or a JSON seed; its message_id is the id of its task, its
priority that of the seed; reply_to, with correlation_id, gets the result as JSON.

The queues must be there: they are yours to make. The bridge makes its connections again when
they are lost, and may run several times. What it has not finished when it ends goes back.

Give the URL as the environment variable AMQP_URL if it has a password: all users of this
machine see what is on a command line. Needs pika: pip install "scrapy-dist[amqp]"

Exit code: 0 ended as asked, 2 it could not begin, or cannot go on.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from scrapy.utils.project import inside_project

from scrapy_dist.base.escaping import get_logger
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import CRAWL, option, whole
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy.settings import Settings

    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.bridge.bridge import Plan

_MOST_PREFETCH = 65_535
_PREFETCH = 2000
#: Options that name what is at the other end.
_SIDES = ("tasks", "items", "results", "status", "failed")


async def _run(settings: Settings, opts: base.Namespace) -> int:
    try:
        from scrapy_dist.bridge.address import Address  # noqa: PLC0415
    except ModuleNotFoundError as e:
        if e.name is None or e.name.split(".")[0] != "pika":
            raise
        raise ConfigurationError(
            "The bridge needs the package pika, which is not installed:"
            ' pip install "scrapy-dist[amqp]"'
        ) from e
    from scrapy_dist.bridge.bridge import Bridge  # noqa: PLC0415
    from scrapy_dist.bridge.notices import Notices  # noqa: PLC0415

    # What it says of lost connections is said here, once and without traceback.
    get_logger("pika").setLevel(logging.CRITICAL + 1)
    plan = _plan(opts)
    url = opts.amqp or os.environ.get("AMQP_URL", "")
    if not url:
        raise ConfigurationError(
            "Which RabbitMQ? Give --amqp amqp://user:password@host:5672/vhost, or set"
            " AMQP_URL in the environment."
        )
    address = Address.parse(url)
    crawl = project.find_crawl(settings, opts)
    async with project.opened(crawl, changes=True):
        await _check(crawl, plan)
        notices = Notices(lambda text: base.warn("bridge", text), base.write)
        bridge = Bridge(crawl, address, plan, notices)
        await bridge.check()
        with base.asked_to_end() as stopping:
            base.write(
                f"Bridge between {crawl.name} in Redis at {crawl.where} and RabbitMQ at"
                f" {address.shown}; Ctrl-C ends"
            )
            await bridge.run(stopping)
    return base.OK


def _plan(opts: base.Namespace) -> Plan:
    from scrapy_dist.bridge.bridge import Plan  # noqa: PLC0415

    if not (opts.tasks or opts.items or opts.failed):
        raise ConfigurationError(
            "What is to go over the bridge? Give --tasks QUEUE, --items QUEUE or --failed"
            " QUEUE, or several of them."
        )
    for name in ("results", "status", "ack"):
        if getattr(opts, name) and not opts.tasks:
            raise ConfigurationError(
                f"--{name} is about tasks: give --tasks QUEUE, too."
            )
    queues = [q for q in (opts.tasks, opts.items, opts.status, opts.failed) if q]
    if len({*queues}) < len(queues):
        raise ConfigurationError(
            "One queue is named twice. Give tasks, items, status and failed a queue each."
        )
    return Plan(
        **{name: getattr(opts, name) or "" for name in _SIDES},
        is_stored_enough=opts.ack == "stored",
        prefetch=opts.prefetch,
    )


async def _check(crawl: Crawl, plan: Plan) -> None:
    if inside_project():
        await crawl.require_known()
    if plan.tasks and not crawl.port.seed_keys:
        raise ConfigurationError(
            f"The spider {crawl.spider!r} reads no seeds, so it has no tasks: it is no"
            " RedisSpider. Make it one (scrapy_dist.spiders.RedisSpider)."
        )


SUBCOMMAND = base.Subcommand(
    name="bridge",
    summary="take tasks from RabbitMQ; send items, results and status there",
    description=__doc__,
    example="scrapy frontier bridge myspider --tasks urls --items items",
    topic="rabbitmq",
    options=(
        *CRAWL,
        option(
            "--amqp",
            "URL",
            "where RabbitMQ is: amqp://user:password@host:5672/vhost, amqps:// for"
            " TLS; without it the environment variable AMQP_URL",
        ),
        option("--tasks", "QUEUE", "take tasks from this queue"),
        option("--items", "QUEUE", "send the items to this queue"),
        option(
            "--results",
            "EXCHANGE",
            "send the result of each task to this exchange, with the routing key"
            " SPIDER.STATE",
        ),
        option(
            "--status",
            "QUEUE",
            "tell this queue when a task is queued, is running and has ended",
        ),
        option(
            "--failed",
            "QUEUE",
            "send dead letters to this queue; they stay in Redis, too",
        ),
        option(
            "--ack",
            None,
            "acknowledge a message when its task has ended (done, without it), or when"
            " Redis has it (stored)",
            choices=("done", "stored"),
        ),
        option(
            "--prefetch",
            "N",
            "hold at most N messages; %(default)s without it. What the workers can"
            " take is fewer as a rule: their number x CONCURRENT_REQUESTS x 2",
            type=whole(1, _MOST_PREFETCH),
            default=_PREFETCH,
        ),
    ),
    run=_run,
)
