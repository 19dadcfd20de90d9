"""The tables and figures of ``scrapy frontier help`` are those of the program."""

from __future__ import annotations

import ast
import inspect
import json
import re
from datetime import datetime, timezone

import pytest
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.commands import failed, status, workers
from scrapy_dist.core.findings import KINDS
from scrapy_dist.core.status import Status, WorkerStatus
from tests.support.documents import ROOT, blocks, documents, spans

DOCUMENTS = documents()
README = DOCUMENTS["README"]


def first_column(document):
    """The names in backquotes in the first cells of the tables of *document*."""
    cells = re.findall(r"^\| (.*?) \|", DOCUMENTS[document], re.MULTILINE)
    return [name for cell in cells for name in re.findall("`([^`]+)`", cell)]


def test_the_findings_of_check_are_explained():
    assert set(first_column("check")) == set(KINDS)


def test_the_fields_of_status_are_explained():
    now = datetime.now(timezone.utc)
    worker = WorkerStatus(**dict.fromkeys(inspect.signature(WorkerStatus).parameters))
    crawl = Status(
        **dict.fromkeys(inspect.signature(Status).parameters, 0)
        | {"time": now, "workers": (), "tasks_by_state": {}}
    )
    explained = set(spans(DOCUMENTS["watching"]))
    assert set(crawl.as_json()) | set(vars(worker)) <= explained
    fields = {field for field in vars(crawl) if field != "exists"}
    assert fields - {"spider", "job", "redis", "time"} <= set(
        spans(DOCUMENTS["client"])
    )


@pytest.mark.parametrize(
    ("document", "columns"),
    [
        ("watching", status._COLUMNS),
        ("watching", workers.COLUMNS),
        ("dead-letters", failed._HEADER),
    ],
)
def test_what_a_terminal_shows_has_the_columns_of_the_command(document, columns):
    header = " +".join(map(re.escape, columns))
    assert re.search(f"^{header}$", DOCUMENTS[document], re.MULTILINE)


def test_the_states_are_explained():
    _, _, text = DOCUMENTS["watching"].partition("## States")
    table, _, _ = text.partition("##")
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    source = ast.parse(inspect.getsource(Status))
    [phase] = [n for n in ast.walk(source) if getattr(n, "name", "") == "phase"]
    words = {n.value for n in ast.walk(phase) if isinstance(n, ast.Constant)}
    assert set(named) == {word for word in words if " " not in word}


def test_the_metrics_are_explained():
    named = {name for name in first_column("prometheus") if "frontier" in name}
    source = (ROOT / "scrapy_dist/admin/metrics.py").read_text("utf-8")
    assert len(named) > 10
    for name in named:
        short = name.removeprefix("scrapy_frontier_").removesuffix("_total")
        assert f"{short}" in source, name
    rules = "".join(block.text for block in blocks("yaml"))
    assert set(re.findall(r"scrapy_frontier_\w+", rules)) <= named


def test_the_keys_are_explained():
    keys = Keys.from_settings(Settings(), "S")
    for key in vars(keys).values():
        if isinstance(key, str) and key.startswith("S:"):
            assert f"`{key}`" in DOCUMENTS["keys"], key


# --- Figures -----------------------------------------------------------------------

#: What is said, its number, and the beginning of the figure's name and its field.
FIGURES = (
    ("| on loopback | 1.10 |", 1.10, "pages/s of one worker, 20 links", "ratio"),
    ("round trips | 0.06 |", 0.06, "round trips to Redis per page", "ours"),
    ("of 20 links | 31 µs |", 31, "Redis CPU per page of 20 links", "ours"),
    ("come to 1.06 of the speed", 1.06, "seeds/s by rpush, 1 ms away", "ratio"),
    ("is 1.06 of the memory", 1.06, "pages/s of a chain of 500 pages", "ratio"),
    ("0.38 on a site", 0.38, "the same while another, idle worker", "ratio"),
    ("123,000 pages per second", 123_000, "frontier capacity, one Redis", "ours"),
    ("| 224 bytes", 224, "bytes in Redis per pending request", "ours"),
    ("| 88 to 100 bytes |", 94, "bytes per fingerprint, default set", "ours"),
    ("| 9.3 bytes |", 9.3, "bytes per fingerprint, CompactDupeFilter", "ours"),
    ("| 0.8 commands/s |", 0.8, "commands per second of an idle", "ours"),
)


@pytest.mark.parametrize(("said", "number", "name", "field"), FIGURES)
def test_figures_are_those_that_were_measured(said, number, name, field):
    """Within what a machine scatters."""
    path = ROOT / "tests/benchmarks/results/figures.json"
    groups = json.loads(path.read_text("utf-8"))["figures"].values()
    [figure, *_] = [f for group in groups for f in group if f["name"].startswith(name)]
    assert said in " ".join(DOCUMENTS["scale"].split())
    assert figure[field] == pytest.approx(number, rel=0.15)


def test_figures_of_readme_are_those_of_the_topic():
    _, _, table = README.partition("| | costs | so |")
    for cell in re.findall(
        r"^\|[^|]*\| ([\d.]+ (?:µs|bytes)|\d+ to \d+ bytes)", table, re.MULTILINE
    ):
        assert cell in DOCUMENTS["scale"]
