"""The example's one command, as a person runs it, on the small shop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import scrapy_dist
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from tests.support.rabbitmq import RabbitServer

EXAMPLE = Path(__file__).parents[2] / "example_project"
BOOKS, SHEETS = 48, 16


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy of the example, so that results and Redis of the checkout stay alone."""
    ignored = shutil.ignore_patterns(".scrapy", "results", "__pycache__")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "example", ignore=ignored))


def start(example: Path, *options: str, **environ: str) -> subprocess.Popen[str]:
    package_parent = str(Path(scrapy_dist.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "example/run.py", "--plain", "--small", *options],
        cwd=example.parent,
        env=os.environ | {"PYTHONPATH": package_parent} | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(example: Path, *options: str, **environ: str) -> dict[str, str]:
    """The summary's rows, of a show that must end well."""
    with start(example, *options, **environ) as show:
        output, _ = show.communicate(timeout=200)
    logs = "".join(
        f"--- {log}\n{log.read_text()[-3000:]}"
        for log in example.glob("results/*/*.log")
    )
    assert show.returncode == 0, output + logs
    assert "Nothing is lost" in output
    rows = re.findall(r"^(\w[\w -]*?)  +(\S.*)$", output, re.MULTILINE)
    return dict(rows)


def items(example: Path, spider: str) -> list[dict[str, object]]:
    file = example / "results" / spider / "items.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_books(example: Path) -> None:
    rows = run(example)

    assert rows["pages"] == "65 of 65"
    assert rows["items"] == f"{BOOKS} of {BOOKS}"
    assert rows["duplicates"] == rows["lost"] == "0"
    assert all(rows[f"worker-{n}"].endswith("finished") for n in (1, 2, 3))
    assert len({item["url"] for item in items(example, "books")}) == BOOKS

    # Again at once: the results are replaced.
    run(example, "--workers", "2")
    assert len(items(example, "books")) == BOOKS


def test_seeded(example: Path) -> None:
    rows = run(example, "--spider", "seeded")

    assert rows["tasks"] == "26 of 26 have ended, 2 failed"  # two pages are missing
    assert rows["items"] == f"{BOOKS} of {BOOKS}"
    assert len(items(example, "seeded")) == BOOKS


def test_datasheets(example: Path) -> None:
    rows = run(example, "--spider", "datasheets")

    assert rows["items"] == rows["files"] == f"{SHEETS} of {SHEETS}"
    files = list((example / "results/datasheets/files").glob("*.pdf"))
    assert len(files) == SHEETS


@pytest.mark.parametrize("spider", ["books", "seeded"])
def test_kill(example: Path, spider: str) -> None:
    rows = run(example, "--kill", "--spider", spider)

    assert rows["worker-3"].endswith("killed")
    assert rows["lost"] == "0"
    if spider == "seeded":
        assert rows["tasks"] == "26 of 26 have ended, 2 failed"
    assert re.fullmatch(r"\d+ pages, \d+ items", rows["again after the kill"])


def test_rabbitmq(example: Path, rabbitmq: RabbitServer) -> None:
    rows = run(example, "--rabbitmq", "--workers", "1", AMQP_URL=rabbitmq.url)

    assert rows["items"] == f"{BOOKS} of {BOOKS}"
    # Two shelves, and the books of two others.
    assert re.fullmatch(
        rf"26 of 26 tasks, {BOOKS} items; 2 led to a missing page", rows["answers"]
    )


def test_interrupt_leaves_no_process_and_a_new_show_starts_afresh(
    example: Path,
) -> None:
    with start(example) as show:
        site = None
        for line in show.stdout:
            site = site or re.search(r"http://\S+", line)
            done = re.search(r"(\d+)/65 pages", line)
            if done and int(done[1]) > 0:
                break
        show.send_signal(signal.SIGINT)
        output, _ = show.communicate(timeout=200)

    assert show.returncode == 130, output
    wait_until(lambda: not workers_of(site[0]), "no worker is left")
    assert run(example)["pages"] == "65 of 65"


def workers_of(site: str) -> list[str]:
    """Command lines of the processes that crawl *site*."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_text().replace("\0", " "))
    return [command for command in found if f"-asite={site}" in command]


def test_what_rabbitmq_cannot_do_is_said(example: Path) -> None:
    with start(example, "--rabbitmq", "--spider", "books") as show:
        said = show.communicate(timeout=200)[0]
    assert show.returncode == 2
    assert "--rabbitmq: only the spider seeded" in said
    pytest.importorskip("pika")
    away = "amqp://me:Secret7@127.0.0.1:1/"
    with start(example, "--rabbitmq", AMQP_URL=away) as show:
        said = show.communicate(timeout=200)[0]
    assert show.returncode == 1
    assert "RabbitMQ cannot be reached" in said
    assert "Traceback" not in said
    assert "Secret7" not in said
