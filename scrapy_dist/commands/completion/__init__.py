"""``scrapy frontier completion``: what lets a shell complete the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scrapy_dist.base.escaping import escape
from scrapy_dist.base.waits import wait_for
from scrapy_dist.commands import base, project
from scrapy_dist.commands.completion.shells import SHELLS, script
from scrapy_dist.commands.options import REDIS, flag, option
from scrapy_dist.exceptions import ConfigurationError
from scrapy_dist.redis_client.embedded.settings import is_running_for
from scrapy_dist.redis_client.parameters import is_embedded

if TYPE_CHECKING:
    from scrapy.settings import Settings

#: Seconds that Redis has for the names of its crawls, and for what is in them.
_TIMEOUT = 1.0
#: Crawls of which tasks and workers are told, and how many of either of each.
_CRAWLS, _OF_EACH = 20, 50
#: Names that are told at the most, and their length.
_MOST, _LONGEST = 2000, 200

_DESCRIPTION = """\
Print a script that lets SHELL complete what you type: subcommands, options, the spiders of
the project, and the crawls, jobs, living workers and newest tasks that Redis knows. Names are
asked for once a minute, by
"scrapy frontier completion --names"; Redis has a second for it, and no error is shown.

  bash   scrapy frontier completion bash > ~/.local/share/bash-completion/completions/scrapy
  zsh    scrapy frontier completion zsh > "${fpath[1]}/_scrapy"
  fish   scrapy frontier completion fish > ~/.config/fish/completions/scrapy.fish

Exit code: 0 printed, 2 not.
"""


def subcommand(
    commands: Callable[[], Sequence[base.Subcommand]], topics: Collection[str]
) -> base.Subcommand:
    """``scrapy frontier completion`` for *commands*, itself among them, and *topics*."""

    async def run(settings: Settings, opts: base.Namespace) -> int:
        if opts.names:
            base.write(*await _names(settings, opts))
            return base.OK
        shell = opts.shell or Path(os.environ.get("SHELL", "")).name
        if shell not in SHELLS:
            raise ConfigurationError(
                "Which shell? For example: scrapy frontier completion bash"
            )
        base.write(*script(shell, commands(), topics).splitlines())
        return base.OK

    return base.Subcommand(
        name="completion",
        summary="a script for bash, zsh or fish that completes all this",
        description=_DESCRIPTION,
        example="scrapy frontier completion bash",
        topic="completion",
        options=(
            option(
                "shell",
                "SHELL",
                f"{', '.join(SHELLS)}; without it that of $SHELL",
                nargs="?",
                choices=SHELLS,
            ),
            flag("--names", "print the names that the script asks for"),
            REDIS,
        ),
        run=run,
    )


async def _names(settings: Settings, opts: base.Namespace) -> list[str]:
    """Lines of ``spider NAME``, and ``job``, ``worker`` or ``task NAME SPIDER``.

    The names of these have no spaces. Nobody reads an error here: whoever types wants to
    go on.
    """
    spiders: set[str] = set()
    others: set[tuple[str, str, str]] = set()
    opts.job = None
    with suppress(Exception):
        spiders.update(project.spider_names(settings))
    with suppress(Exception):
        await wait_for(_ask(settings, opts, spiders, others), _TIMEOUT)
    told = [f"spider {spider}" for spider in sorted(spiders) if _shows(spider)]
    for kind, spider, name in sorted(others):
        if _shows(spider) and _shows(name) and " " not in name:
            told.append(f"{kind} {name} {spider}")
    return told[:_MOST]


async def _ask(
    settings: Settings,
    opts: base.Namespace,
    spiders: set[str],
    others: set[tuple[str, str, str]],
) -> None:
    """Add what Redis knows, as it comes; an embedded one is not started for that."""
    crawls = project.all_crawls(settings, opts)
    if is_embedded(settings) and not is_running_for(settings):
        return
    async with crawls:
        names = await crawls.names()
        spiders.update(spider for spider, _ in names)
        others.update(("job", spider, job) for spider, job in names if job)
        for spider, job in names[:_CRAWLS]:
            crawl = await crawls.of(spider, job)
            status = await crawl.status()
            workers = [worker.worker for worker in status.alive[:_OF_EACH]]
            tasks = await crawl.port.newest_tasks(_OF_EACH) if status.tasks else []
            others.update(("worker", spider, name) for name in workers)
            others.update(("task", spider, task.id) for task in tasks)


def _shows(name: str) -> bool:
    """Whether it shows well on a terminal, and does not look like an option."""
    is_plain = escape(name) == name == name.strip() and not name.startswith("-")
    return is_plain and 0 < len(name) <= _LONGEST
