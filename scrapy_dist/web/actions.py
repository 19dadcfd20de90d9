"""What forms do to a crawl. Each says in one sentence what it has done."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scrapy_dist.admin.seed_files import Lines, Tally, read_file
from scrapy_dist.admin.tasks import Tasks
from scrapy_dist.admin.urls import recrawl
from scrapy_dist.base.words import clean, count, number
from scrapy_dist.exceptions import BadSeed, ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.admin.crawl import Crawl
    from scrapy_dist.admin.seeding import Seed, Sower
    from scrapy_dist.web.forms import Form

#: Seeds that one form may push: a small file may be unpacked to very many.
MOST_SEEDS = 1_000_000
#: Bad seeds that are shown.
_TOLD = 10


@dataclass(frozen=True)
class Action:
    """*do* it, and tell; then the *page* of the crawl is shown.

    *ask*: what to ask before it is done, from the form; '' if it is done at once.
    *searches*: it may look through all requests.
    """

    do: Callable[[Crawl, Form], Awaitable[str]]
    page: str = ""
    ask: Callable[[Form], str] = lambda form: ""
    searches: bool = False


async def _pause(crawl: Crawl, form: Form) -> str:
    done = await crawl.pause(True)
    if done.before:
        return "The crawl was paused already."
    return f"Paused: {count(done.alive, 'worker')} will take no more requests."


async def _resume(crawl: Crawl, form: Form) -> str:
    done = await crawl.pause(False)
    if not done.before:
        return "The crawl was not paused."
    return f"Resumed: {count(done.alive, 'worker')} may go on."


async def _stop(crawl: Crawl, form: Form) -> str:
    names = form.all("worker")
    if not names:
        raise ConfigurationError("Which worker? None was chosen.")
    done = await crawl.stop(names)
    return f"Asked {count(done.asked, 'worker')} to close."


def _ask_stop(form: Form) -> str:
    return "Ask all workers to close?" if "all" in form.all("worker") else ""


async def _retry(crawl: Crawl, form: Form) -> str:
    await crawl.check_format()
    done = await crawl.retry(*_chosen(form))
    said = f"{number(done.requests)} put back"
    if done.seeds:
        seeds = f"{number(done.seeds)} put back to the seeds"
        said = f"{said}, {seeds}" if done.requests else seeds
    if done.unreadable:
        why = f" ({done.examples[0][1]})" if done.examples else ""
        said += f"; {number(done.unreadable)} cannot be put back, and stay{why}"
    return f"{said}{_missing(done.missing)}."


async def _forget(crawl: Crawl, form: Form) -> str:
    await crawl.check_format()
    done = await crawl.forget(*_chosen(form))
    return f"{number(done.deleted)} deleted{_missing(done.missing)}."


def _ask_forget(form: Form) -> str:
    ids, reason = _chosen(form)
    if ids is not None:
        return f"Delete {count(len(ids), 'dead letter')} for good?"
    if reason:
        return (
            f"Delete all dead letters with {clean(reason)!r} in their reason for good?"
        )
    return "Delete all dead letters for good?"


def _missing(missing: int) -> str:
    return f"; {number(missing)} not there any more" if missing else ""


def _chosen(form: Form) -> tuple[list[str] | None, str]:
    """Ids; or None for all, and of these only those with the reason."""
    if form.get("which") == "all":
        return None, form.get("reason")
    ids = form.all("id")
    if not ids:
        raise ConfigurationError("Which dead letters? None was chosen.")
    return ids, ""


async def _cancel(crawl: Crawl, form: Form) -> str:
    ids = form.all("id")
    if not ids:
        raise ConfigurationError("Which tasks? None was chosen.")
    await crawl.check_format()
    before = await Tasks(crawl).cancel(ids)
    lived = sum(task is not None and not task.state.is_end for task in before)
    said = f"{count(lived, 'task')} cancelled"
    if rest := len(before) - lived:
        said += (
            f"; {number(rest)} had ended, or {'is' if rest == 1 else 'are'} not known"
        )
    return f"{said}."


def _ask_cancel(form: Form) -> str:
    chosen = len(form.all("id"))
    return f"Cancel {count(chosen, 'task')}?" if chosen else ""


async def _recrawl(crawl: Crawl, form: Form) -> str:
    [done] = await recrawl(crawl, [form.get("url").strip()])
    if done.queued:
        return "Queued once more."
    return f"It is {done.place} already, and was left alone."


async def _seed(crawl: Crawl, form: Form) -> str:
    if not crawl.port.seed_keys:
        raise ConfigurationError(
            f"The spider {clean(crawl.spider)} reads no seeds: it is no RedisSpider."
        )
    await crawl.check_format()
    maker = crawl.seed_maker(None, _priority(form.get("priority")))
    async with aclosing(_lines(form, maker.rules.max_size)) as lines:  # type: ignore[type-var]
        return await _push(crawl.sower(maker), lines)


def _priority(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(
            f"{clean(text)} is no priority: a whole number."
        ) from None


async def _lines(form: Form, most: int) -> AsyncIterator[Lines]:
    if typed := form.get("seeds"):
        yield Lines("line", 1, typed.splitlines())
    if data := form.files.get("file"):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            name = "line of the file"
            async for part in read_file(file.fileno(), name, most, Tally()):
                yield part


async def _push(sower: Sower[Seed], source: AsyncIterator[Lines]) -> str:
    """Push the seeds of *source*; tells what has become of them."""
    taken, bad, rest = 0, 0, ""
    told: list[str] = []

    def note(problem: str) -> None:
        nonlocal bad
        bad += 1
        if len(told) < _TOLD:
            told.append(clean(problem, 300))

    async for part in source:
        for at, raw in enumerate(part.lines, part.first):
            line = raw.strip()
            if not line or line[:1] in (b"#", "#"):
                continue
            if taken == MOST_SEEDS:
                rest = f" {number(MOST_SEEDS)} are the most at once: nothing from {part.source} {number(at)} on was pushed."
                break
            taken += 1
            try:
                sower.take(line)
            except BadSeed as e:
                note(f"{part.source} {at}: {e}")
            if sower.is_full:
                await sower.push()
        if rest:
            break
        if part.problem:
            note(f"The file {part.problem}")
    await sower.push()
    text = f"{count(sower.pushed, 'seed')} pushed"
    if sower.new < sower.pushed:
        text += f", {number(sower.pushed - sower.new)} of them were there already"
    if bad:
        text += f"; {number(bad)} not pushed: {'; '.join(told)}"
        text += "; …" if bad > len(told) else ""
    return f"{text}.{rest}"


#: All actions, by the page that forms are sent to.
ACTIONS = {
    "pause": Action(_pause),
    "resume": Action(_resume),
    "stop": Action(_stop, ask=_ask_stop),
    "retry": Action(_retry, "failed"),
    "forget": Action(_forget, "failed", _ask_forget),
    "seed": Action(_seed, "seeds"),
    "recrawl": Action(_recrawl, searches=True),
    "cancel": Action(_cancel, "tasks", _ask_cancel, searches=True),
}
