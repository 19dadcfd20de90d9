"""Check that the frontier of SPIDER is whole: every lease has its request and its worker,
every request is in one place and can be read, no order id is given out twice. What is not
is told a line each, with its name in --json in brackets, and a few examples.

It may run while workers are at work, and changes nothing without --repair. With --repair
it mends what a torn file or a human hand broke: nothing is deleted that still has to be
crawled; what cannot be read is set aside in the dead letters with its reason.

Exit code: 0 all is well (with --repair: now), 1 something is left, 2 no check was made.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from scrapy_dist.base.words import count, number
from scrapy_dist.commands import base, project
from scrapy_dist.commands.options import common, flag
from scrapy_dist.core.findings import KINDS, Finding, Report

#: Fields of Counts, in the order of the output.
_COUNTS = ("pending", "suspect", "leased", "failed", "seen")


async def _run(crawl: project.Crawl, opts: base.Namespace) -> int:
    report = await crawl.check(repair=opts.repair)
    if crawl.project is None and not report.exists and report.ok:
        # No project says whether there is such a spider.
        raise await crawl.unknown()
    base.tell(
        opts,
        _as_json(crawl, report, repaired=opts.repair),
        _lines(crawl, report, repaired=opts.repair),
    )
    return base.OK if report.ok else base.TROUBLE


def _as_json(crawl: project.Crawl, report: Report, *, repaired: bool) -> dict[str, Any]:
    counts = asdict(report.counts) if report.counts else {}
    alive, silent = counts.pop("alive", None), counts.pop("silent", None)
    return {
        "spider": crawl.spider,
        "redis": crawl.where,
        "ok": report.ok,
        "repair": repaired,
        **{name: counts.get(name) for name in _COUNTS},
        "workers_alive": alive,
        "workers_silent": silent,
        "findings": [
            {**asdict(finding), "left": finding.left}
            for finding in report.findings.values()
        ],
        "notes": report.notes,
    }


def _lines(crawl: project.Crawl, report: Report, *, repaired: bool) -> list[str]:
    lines = []
    counts = report.counts
    if not report.exists:
        lines.append(
            f"There is no frontier of {crawl.spider} at {crawl.where}: nothing to check."
        )
    elif counts:
        sizes = ", ".join(f"{getattr(counts, name)} {name}" for name in _COUNTS)
        lines.append(
            f"{crawl.spider} at {crawl.where}: {sizes};"
            f" workers: {number(counts.alive)} alive, {number(counts.silent)} silent"
        )
    for finding in report.findings.values():
        is_sound = report.code_is_wrong and finding.kind.startswith("unreadable_")
        lines.append(_line(finding, repaired=repaired, is_sound=is_sound))
    lines += [f"Note: {note}" for note in report.notes]
    if not report.findings:
        lines.append("OK")
    elif report.ok:
        lines.append("OK: all is mended")
    elif not repaired and report.can_be_mended:
        lines.append(
            f"Not OK. To mend it: scrapy frontier check {crawl.spider} --repair"
        )
    else:
        lines.append("Not OK")
    return lines


def _line(finding: Finding, *, repaired: bool, is_sound: bool) -> str:
    kind = KINDS[finding.kind]
    what, remedy = count(finding.count, kind.one, kind.many), kind.remedy
    if repaired:
        remedy = "mended"
        if finding.left:
            remedy = f"{number(finding.mended)} mended, {number(finding.left)} left"
    if is_sound:
        remedy = "not to be mended here, see the note"
    more = ", …" if finding.count > len(finding.examples) else ""
    examples = "; ".join(finding.examples)
    return f"{what} [{finding.kind}], {remedy}: {examples}{more}"


SUBCOMMAND = base.Subcommand(
    name="check",
    summary="is the frontier whole? --repair mends it",
    description=__doc__,
    example="scrapy frontier check myspider --repair",
    topic="check",
    options=(*common(), flag("--repair", "mend what is broken")),
    run=project.of_crawl(_run, changes=True),
)
