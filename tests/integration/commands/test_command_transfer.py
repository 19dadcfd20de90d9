"""``scrapy frontier export`` and ``import``."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import io
import json
import os
import pickle
import resource
import stat
import subprocess
import sys

import pytest
from scrapy import Request
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.views import snapshot
from scrapy_dist.commands import export, import_
from scrapy_dist.exceptions import BadPayload, ConfigurationError
from tests.integration.commands.test_command_status import plant
from tests.support.commands import run_frontier
from tests.support.project import assert_finished
from tests.support.redis_state import count_leased, count_pending, stored_items
from tests.support.site import tree_pages
from tests.support.spiders import FOLLOW
from tests.support.wait import wait_until


@pytest.fixture
def run(redis_server, capfd):
    """``run(subcommand, *args)`` in this process, outside a project.

    Exit code, output and messages.
    """

    def run(subcommand, *args):
        parser = argparse.ArgumentParser()
        subcommand.add_options(parser)
        opts = parser.parse_args([*args, "--redis", redis_server.url])
        capfd.readouterr()
        code = asyncio.run(subcommand.run(Settings(), opts))
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def fill(redis_server):
    """5 requests of ``s`` are pending; 3 fingerprints, 2 seeds and an item are there."""

    def fill():
        with redis_server.client() as client:
            client.flushall()
            plant(client, "s", pending=5)
            client.sadd("s:dupefilter", "a", "b", "c")
            client.rpush("s:start_urls", "http://a/", "http://b/")
            client.rpush("s:items", "i")

    fill()
    return fill


@pytest.mark.parametrize("name", ["f.jsonl", "f.jsonl.gz"])
def test_a_file_holds_a_frontier(run, fill, redis_server, tmp_path, name):
    path = tmp_path / name
    code, out, err = run(export.SUBCOMMAND, "s", str(path))
    assert (code, err) == (0, "")
    assert out == "s: 3 seen, 2 seeds, 5 pending written.\n"
    assert list(tmp_path.iterdir()) == [path]
    text = path.read_bytes()
    text = gzip.decompress(text) if name.endswith(".gz") else text
    assert len([json.loads(line) for line in text.splitlines()]) == 12
    with redis_server.client() as client:
        client.flushall()
        code, out, err = run(import_.SUBCOMMAND, "s", str(path), "--json")
        assert (code, err) == (0, "")
        told = json.loads(out)
        assert (told["pending"], told["seen"], told["complete"]) == (5, 3, True)
        assert count_pending(client, "s") == 5


def test_pipes_work_both_ways(run, fill, redis_server, monkeypatch):
    code, out, err = run(export.SUBCOMMAND, "s", "-", "--items")
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["counts"]["item"] == 1
    with redis_server.client() as client:
        client.flushall()
        stdin = io.TextIOWrapper(io.BytesIO(out.encode()))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run(import_.SUBCOMMAND, "other", "-")[0] == 0
        assert count_pending(client, "other") == 5
        assert stored_items(client, "other") == [b"i"]


def test_a_file_that_is_cut_off_is_told(run, fill, redis_server, tmp_path):
    path = tmp_path / "f.jsonl.gz"
    run(export.SUBCOMMAND, "s", str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with redis_server.client() as client:
        client.flushall()
    code, _, err = run(import_.SUBCOMMAND, "s", str(path))
    assert code == 1
    assert "truncated" in err
    # The complete file completes it.
    path.write_bytes(whole)
    code, _, err = run(import_.SUBCOMMAND, "s", str(path))
    assert (code, err) == (0, "")
    with redis_server.client() as client:
        assert count_pending(client, "s") == 5


def test_an_export_that_fails_leaves_the_older_file(run, fill, redis_server, tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text("older")
    with redis_server.client() as client:
        client.delete("s:requests")
        client.set("s:requests", "a stranger's")
    with pytest.raises(ConfigurationError, match="scrapy frontier check"):
        run(export.SUBCOMMAND, "s", str(path), "--overwrite")
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["f", "f.gz"])
def test_an_export_is_for_its_owner_and_replaces_nothing(run, fill, tmp_path, name):
    umask = os.umask(0)
    try:
        path, other = tmp_path / name, tmp_path / "other"
        other.write_text("a stranger's")
        path.symlink_to(other)
        with pytest.raises(ConfigurationError, match=r"is there already.*--overwrite"):
            run(export.SUBCOMMAND, "s", str(path))
        # A link that somebody else prepared is replaced, not followed.
        assert run(export.SUBCOMMAND, "s", str(path), "--overwrite")[0] == 0
        assert other.read_text() == "a stranger's"
        assert path.lstat().st_mode == stat.S_IFREG | 0o600
        with pytest.raises(ConfigurationError, match="is there already"):
            run(export.SUBCOMMAND, "s", str(path))
        assert sorted(tmp_path.iterdir()) == [path, other]
    finally:
        os.umask(umask)


def test_an_export_that_is_not_whole_is_no_success(run, fill, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "_ROUNDS", 0)
    fill()
    path = tmp_path / "f.jsonl"
    code, _, err = run(export.SUBCOMMAND, "s", str(path))
    assert code == 1
    assert "changed faster than it could be read" in err
    code, _, err = run(import_.SUBCOMMAND, "other", str(path))
    assert code == 1
    assert "requests may be missing" in err


def test_what_is_no_file_is_not_replaced(run, fill, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationError, match="is no file"):
        run(export.SUBCOMMAND, "s", str(pipe), "--overwrite")
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_name_under_what_is_no_folder_is_told(run, fill):
    with pytest.raises(ConfigurationError, match="cannot be written: Not a directory"):
        run(export.SUBCOMMAND, "s", "/dev/null/x")


def test_of_a_line_without_end_little_is_unpacked(run, redis_server, tmp_path):
    """44 KB of gzip have made 1.2 GB of memory."""
    path = tmp_path / "f.gz"
    with gzip.open(path, "wb", 9) as file:
        file.write(b'{"type":"frontier","version":1,"id":"')
        for _ in range(60):
            file.write(b"a" * (1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadPayload, match="Line 1 of the file is longer than 8454144"):
        run(import_.SUBCOMMAND, "s", str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_workers_at_work_are_told_of(run, fill, redis_server, tmp_path):
    with redis_server.client() as client:
        plant(client, "s", alive=["host:1"])
        code, _, err = run(export.SUBCOMMAND, "s", str(tmp_path / "f"))
        assert code == 0
        assert "1 worker is at work" in err
        client.hset("s:control", "paused", 1)
        again = run(export.SUBCOMMAND, "s", str(tmp_path / "f"), "--overwrite")
        assert again[2] == ""
        with pytest.raises(ConfigurationError, match="1 worker of s is alive"):
            run(import_.SUBCOMMAND, "s", str(tmp_path / "f"))
        code, _, _ = run(
            import_.SUBCOMMAND, "s", "--force", "--merge", str(tmp_path / "f")
        )
        assert code == 0
        assert count_pending(client, "s") == 10


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["s"], "Import what"),
        (["s", "f", "--from-scrapy-redis", "x"], "Import what"),
        (["s", "nowhere"], "'?nowhere'? cannot be read"),
        (["s", "--from-scrapy-redis", "x"], "runs code of whoever.*--allow-pickle"),
        (["s", "--from-scrapy-redis", "x", "--allow-pickle"], "inside the project"),
    ],
)
def test_wrong_use_is_told(run, redis_server, tmp_path, monkeypatch, args, problem):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=problem):
        run(import_.SUBCOMMAND, *args)


def test_a_file_of_something_else_is_refused(run, redis_server, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"\x1f\x8bno gzip\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        run(import_.SUBCOMMAND, "s", str(path))
    path.write_text("{}\n")
    with pytest.raises(ConfigurationError, match="This is no export"):
        run(import_.SUBCOMMAND, "s", str(path))


def test_a_killed_crawl_goes_on_in_another_redis(
    project, make_project, make_redis, site, redis_server
):
    project.spider(FOLLOW)
    site.delay(60)
    args = {"url": f"{site.url}/tree/120/3/0"}
    site.answer(40)
    worker = project.crawl("follow", args=args)
    wait_until(site.waiting, "pages in work")
    worker.kill()
    site.delay(0)
    site.resume()
    settings = {"REDIS_URL": redis_server.url}
    with redis_server.client() as client:
        held = count_leased(client, "follow")
    # The worker may still count as alive, and is told of.
    ran = run_frontier(project.folder, "export", "follow", "f.gz", settings=settings)
    assert ran.returncode == 0, ran
    elsewhere = make_redis()
    settings = {"REDIS_URL": elsewhere.url}
    ran = run_frontier(project.folder, "import", "follow", "f.gz", settings=settings)
    assert ran.returncode == 0, ran
    check = run_frontier(project.folder, "check", "follow", settings=settings)
    assert check.returncode == 0, check
    assert_finished([project.crawl("follow", settings, args=args)])
    hits = site.hits()
    assert set(hits) >= set(tree_pages(120, 3))
    # What was leased is crawled once more, and nothing else.
    assert hits.total() <= 120 + held


def test_a_crawl_of_scrapy_redis_is_taken_over(project, site, redis_server):
    project.spider(FOLLOW)
    with redis_server.client() as client:
        for n in range(3):
            request = Request(f"{site.url}/tree/40/3/{n}", priority=n).to_dict()
            client.zadd(
                "old:requests",
                {pickle.dumps(request | {"callback": "parse"}, protocol=-1): -n},
            )
        client.sadd("old:dupefilter", "ab" * 20)
    ran = run_frontier(
        project.folder,
        *("import", "follow", "--from-scrapy-redis", "old", "--allow-pickle"),
        settings={"REDIS_URL": redis_server.url},
    )
    assert ran.returncode == 0, ran
    assert "3 requests, 1 fingerprint and 0 seeds taken over, 0 left" in ran.stdout
    assert "ScrapyRedisFingerprinter" in ran.stderr
    with redis_server.client() as client:
        assert client.keys("old:*") == []
    args = {"url": f"{site.url}/tree/40/3/0"}
    assert_finished([project.crawl("follow", args=args)])
    assert dict(site.hits()) == dict.fromkeys(tree_pages(40, 3), 1)


#: What reads the export: some of it, or nothing.
@pytest.mark.parametrize(("pending", "reader"), [(20_000, "head -1"), (1, "true")])
def test_a_reader_that_goes_is_told_by_the_exit_code_alone(
    redis_server, tmp_path, pending, reader
):
    with redis_server.client() as client:
        plant(client, "s", pending=pending)
    ran = export_into(f"| {reader}", redis_server, tmp_path)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "Traceback" not in ran.stdout


def test_a_full_disk_behind_standard_output_is_told(redis_server, tmp_path):
    with redis_server.client() as client:
        plant(client, "s", pending=1)
    ran = export_into("> /dev/full", redis_server, tmp_path)
    assert ran.returncode == 2
    [line] = ran.stderr.splitlines()
    assert "The output cannot be written" in line


def export_into(where, redis_server, folder):
    command = (
        f"{sys.executable} -m scrapy frontier export s - --redis {redis_server.url}"
    )
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", f"{command} {where}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
