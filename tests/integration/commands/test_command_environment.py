"""REDIS_URL of the environment: for the commands, where nothing else names a Redis."""

from __future__ import annotations

import json

import pytest

from scrapy_dist import defaults
from tests.support.commands import run_frontier, run_here
from tests.support.redis_server import free_port


@pytest.fixture
def server(redis_server):
    with redis_server.client() as client:
        client.rpush("books:start_urls", "http://x/")
    return redis_server


def crawls(result) -> list[str]:
    code, out, _ = result
    assert code == 0, result
    return [crawl["spider"] for crawl in json.loads(out)]


def test_outside_a_project(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", server.url)
    assert crawls(run_here("status", "--json")) == ["books"]
    code, out, err = run_here("status", "books")
    assert (code, err) == (0, "")
    assert "books" in out


def test_options_win(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", f"redis://:pa55word@127.0.0.1:{free_port()}/0")
    assert crawls(run_here("status", "--json", "--redis", server.url)) == ["books"]
    for settings in (
        [f"REDIS_URL={server.url}"],
        ["REDIS_HOST=127.0.0.1", f"REDIS_PORT={server.port}"],
    ):
        given = [each for setting in settings for each in ("-s", setting)]
        assert crawls(run_here("status", "--json", *given)) == ["books"]


def test_switched_off_is_off(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", server.url)
    code, _, err = run_here("status", "-s", "REDIS_URL=")
    assert code == 2
    assert "Which Redis?" in err


def test_no_password_in_an_error(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for url in (
        f"redis://u:pa55word@127.0.0.1:{free_port()}/0",
        "redis://u:pa55word@h:x/0",
        "redis://h?pass=pa55word",
        "rediss+sentinel://u:pa55word@h",
    ):
        monkeypatch.setenv("REDIS_URL", url)
        for command in (["status"], ["status", "--json"], ["seed", "s", "http://x/"]):
            code, out, err = run_here(*command)
            assert code == 2
            assert "pa55word" not in out + err
            assert "Traceback" not in err


def test_inside_a_project(server, make_project):
    """What the project says, or one of its spiders, wins; else people are told."""
    project = make_project(None)
    project.spider('class A(Spider):\n    name = "books"')
    address = f'{{"REDIS_HOST": "127.0.0.1", "REDIS_PORT": {server.port}}}'
    project.spider(
        f'class B(Spider):\n    name = "own"\n    custom_settings = {address}'
    )
    here = {"REDIS_URL": server.url}
    away = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    said = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": server.port}

    result = run_frontier(project.folder, "status", "books", environ=here)
    assert (result.returncode, "1" in result.stdout) == (0, True)
    assert result.stderr.count("REDIS_URL of the environment") == 1
    folder = defaults.FRONTIER_EMBEDDED_DIR
    assert f".scrapy/{folder}" in result.stderr

    result = run_frontier(
        project.folder, "status", "books", environ=away, settings=said
    )
    assert (result.returncode, result.stderr) == (0, "")
    result = run_frontier(project.folder, "status", "own", environ=away)
    assert (result.returncode, result.stderr) == (0, "")


def test_url_that_stands_where_a_spider_should(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    url = server.url.replace("redis://", "redis://u:pa55word@")
    for arguments in (["status", url], ["status", "books", url]):
        code, out, err = run_here(*arguments, "--redis", server.url)
        assert code == 2
        assert err
        assert "pa55word" not in out + err
