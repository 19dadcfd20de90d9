"""Names that somebody planted in Redis reach no terminal and no log as they are."""

from __future__ import annotations

import json
import logging

import pytest
from prometheus_client import parser
from scrapy import Spider

from scrapy_dist.base.escaping import spider_logger
from scrapy_dist.commands.frontier import SUBCOMMANDS
from tests.support import fuzz
from tests.support.commands import run_here

#: What moves the cursor, begins a line, turns the text, hides: one of each kind.
HOSTILE = "\x1b[2J\x1b]0;t\x07\r\nERROR: x\x00\x9b\u2028\u202e\u2066\u200b\ufeff\u3164"

#: The same, as an argument of a command line.
NAME = HOSTILE.replace("\0", "")


@pytest.mark.keeps("*", reason="names that nobody means")
@pytest.mark.parametrize("name", ["s", NAME, f"s:{NAME}", "a" * 500])
def test_no_command_shows_a_hostile_name(redis_server, name):
    with redis_server.client() as client:
        fuzz.plant(client, name, *[HOSTILE] * 4)
        client.hset("s:state", "import", HOSTILE)
    said, used = "", set()
    for words in fuzz.commands_for(name, NAME, NAME):
        code, out, err = run_here(*words, "--redis", redis_server.url)
        assert code in (0, 1, 2), (words, err)
        for line in (*out.split("\n"), *err.split("\n")):
            fuzz.check_shown(line)
            assert not line.startswith("ERROR")
        said += out + err
        used.add(words[0])
        if "--json" in words:
            for line in out.splitlines():
                json.loads(line)
    assert "\\x1b" in said
    # `help` reads nothing of Redis; two go on until they are stopped, and one writes for
    # shells: they have tests of their own.
    others = {"help", "bridge", "web", "completion"}
    assert used == {command.name for command in SUBCOMMANDS} - others


def test_labels_of_metrics_are_short_escaped_and_different(redis_server):
    names = ["\x1b", "\\x1b", "a" * 500, "a" * 501, "b\nc"]
    with redis_server.client() as client:
        for name in names:
            client.hset(f"{name}:state", "active", 1)
    code, out, _ = run_here("metrics", "--once", "--redis", redis_server.url)
    assert code == 0
    labels = [
        sample.labels["spider"]
        for family in parser.text_string_to_metric_families(out)
        if family.name == "scrapy_frontier_pending_requests"
        for sample in family.samples
    ]
    assert len(set(labels)) == len(names)
    assert all(len(label) <= 200 and label.isprintable() for label in labels)


def test_suggestions_are_escaped(redis_server):
    with redis_server.client() as client:
        client.hset("my\x1b[2Jspider:state", "active", 1)
    code, _, err = run_here("status", "myspider", "--redis", redis_server.url)
    assert code == 2
    assert "Did you mean 'my\\x1b[2Jspider'?" in err


def test_what_a_worker_logs_of_redis_is_escaped(caplog):
    with caplog.at_level(logging.WARNING):
        logger = spider_logger("scrapy_dist.worker.rejects", Spider("s"))
        logger.warning("Set %s: %s", "a request aside", HOSTILE)
    fuzz.check_shown(caplog.records[0].getMessage())


def test_the_picture_of_top_has_no_hostile_name(redis_server, tmp_path):
    with redis_server.client() as client:
        fuzz.plant(client, "s", *[HOSTILE] * 4)
    path = tmp_path / "top.svg"
    words = ("top", "s", "-n", "1", "--svg", str(path))
    assert run_here(*words, "--redis", redis_server.url)[0] == 0
    _, out, _ = run_here("workers", "s", "--redis", redis_server.url)
    assert out.count("x1b[2J") >= 2  # worker and number
    picture = path.read_text().replace("\xa0", " ").replace("&#160;", " ")
    assert "x1b[2J" in picture
    for line in picture.split("\n"):
        fuzz.check_shown(line)


def test_what_a_worker_tells_is_not_read_beyond_what_workers_tell(redis_server):
    with redis_server.client() as client:
        fuzz.plant(client, "s", "w" * 100_000, "r" * 100_000, "GET", "o" * 100_000)
        before = client.info("stats")["total_net_output_bytes"]
        assert run_here("workers", "s", "--redis", redis_server.url)[0] == 0
        after = client.info("stats")["total_net_output_bytes"]
    assert after - before < 100_000
