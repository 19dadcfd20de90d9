"""``scrapy frontier seed``, on a real Redis: files, pipes, sitemaps, and what goes wrong."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import http.server
import json
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest
from scrapy.settings import Settings

from scrapy_dist.commands.seed import SUBCOMMAND
from scrapy_dist.exceptions import BadSeed, ConfigurationError
from tests.support.project import SETTINGS, package_parent, wait_all
from tests.support.proxy import Proxy
from tests.support.spiders import SEEDED
from tests.support.wait import wait_until

KEY = "books:start_urls"
URL = "https://site.example/"


def seed_process(folder, *args, settings=None, **options):
    """``scrapy frontier seed ARGS`` in *folder*, started as a process."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
    env["PYTHONPATH"] = package_parent()
    env["CRAWL_SETTINGS"] = repr({**SETTINGS, **(settings or {})})
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(
        [sys.executable, "-m", "scrapy", "frontier", "seed", *args],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def seed_in_project(project, *args, **settings):
    settings = {"REDIS_URL": project.redis_url, **settings}
    with seed_process(project.folder, *args, settings=settings) as process:
        out, err = process.communicate(timeout=200)
    return process.returncode, out, err


@pytest.fixture
def seed(redis_server, capsys, tmp_path, monkeypatch):
    """Run the command in this process, outside a project: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*args, url=redis_server.url, **settings):
        parser = argparse.ArgumentParser()
        SUBCOMMAND.add_options(parser)
        new = [] if "--known" in args else ["--new"]
        args = [arg for arg in args if arg != "--known"]
        opts = parser.parse_args(["books", "--redis", url, *new, *args])
        code = asyncio.run(SUBCOMMAND.run(Settings(settings), opts))
        return code, *capsys.readouterr()

    return run


def pushed(client):
    return [data.decode() for data in client.lrange(KEY, 0, -1)]


@pytest.fixture
def web():
    """``web({path: body or number of a status})`` serves these; returns its URL."""
    servers = []

    def serve(pages):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                agents.append(self.headers["User-Agent"])
                body = pages.get(self.path, 404)
                if isinstance(body, str) and body.startswith("-> "):
                    self.send_response(302)
                    self.send_header("Location", body[3:])
                    self.end_headers()
                elif isinstance(body, int):
                    self.send_error(body)
                else:
                    body = body.encode() if isinstance(body, str) else body
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        return f"http://127.0.0.1:{server.server_port}"

    agents = []
    serve.agents = agents
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def urlset(*urls):
    return (
        "<urlset>" + "".join(f"<url><loc> {u} </loc></url>" for u in urls) + "</urlset>"
    )


def index(*urls):
    entries = "".join(f"<sitemap><loc>{u}</loc></sitemap>" for u in urls)
    return f"<sitemapindex>{entries}</sitemapindex>"


# Names


def test_a_spider_that_nobody_knows_is_refused(seed, client):
    client.hset("book:state", "version", 1)
    with pytest.raises(ConfigurationError, match=r"Did you mean 'book'.*--new"):
        seed("--known", "http://a.example/")
    assert pushed(client) == []
    assert seed("http://a.example/")[0] == 0
    assert seed("--known", "http://b.example/")[0] == 0
    assert len(pushed(client)) == 2


# Arguments


def test_arguments_are_pushed_in_order(seed, client):
    code, out, err = seed(f"{URL}1", '{"url": "https://a/", "priority": 7}')
    assert (code, out, err) == (0, f"2 seeds pushed to {KEY}\n", "")
    assert pushed(client) == [f"{URL}1", '{"url": "https://a/", "priority": 7}']


def test_meta_and_priority_may_stand_before_the_urls(seed, client):
    args = ("--meta", "shop=7", "--priority", "3", URL, "--meta", "a=b=c", f"{URL}2")
    assert seed(*args)[0] == 0
    assert [json.loads(data) for data in pushed(client)] == [
        {"meta": {"shop": "7", "a": "b=c"}, "priority": 3, "url": url}
        for url in (URL, f"{URL}2")
    ]


def test_scripts_get_one_object(seed):
    code, out, _ = seed("--json", URL, "nonsense")
    report = json.loads(out)
    assert report.pop("redis").startswith("redis://127.0.0.1")
    assert code == 1
    assert report == {
        "spider": "books",
        "key": KEY,
        "pushed": 1,
        "new": 1,
        "bad": 1,
        "unreadable_sources": 0,
        "complete": False,
        "skip": 2,
    }


@pytest.mark.keeps("other", reason="--key names it")
def test_key_and_its_type_may_be_chosen(seed, client):
    client.sadd("other", URL)
    code, out, _ = seed("--key", "other", URL, f"{URL}2")
    assert (code, out) == (0, "2 seeds pushed to other, 1 of them were there already\n")
    assert client.scard("other") == 2
    seed(URL, "--priority", "9", REDIS_START_URLS_AS_ZSET=True)
    [(_, score)] = client.zrange(KEY, 0, -1, withscores=True)
    assert score == 9


def test_job_has_seeds_of_its_own(seed, client):
    assert seed("--job", "nightly", URL)[0] == 0
    assert client.llen("books:nightly:start_urls") == 1


# Files


def test_lines_that_are_no_good_are_reported_and_the_others_pushed(
    seed, client, tmp_path
):
    lines = [f"{URL}1", "", "# a comment", "ftp://x/", "  " + f"{URL}2", '{"url": 1}']
    (tmp_path / "urls.txt").write_text("\r\n".join(lines))
    code, out, err = seed("--file", "urls.txt")
    assert code == 1
    assert out == f"2 seeds pushed to {KEY}; 2 not pushed, see above\n"
    first, second = err.splitlines()
    assert first.startswith("urls.txt:4: the scheme 'ftp' is not allowed")
    assert second.startswith("urls.txt:6: url is a JSON number")
    assert pushed(client) == [f"{URL}1", f"{URL}2"]


def test_a_flood_of_bad_seeds_is_a_count_and_some_lines(seed, client, tmp_path):
    lines = [f"ftp://x/{n}" for n in range(5000)] + [f"{URL}1"]
    (tmp_path / "urls.txt").write_text("\n".join(lines))
    code, out, err = seed("--file", "urls.txt")
    assert code == 1
    told = "1 seed pushed to", "5,000 not pushed, see above for the first 20"
    assert all(text in out for text in told)
    assert len(err.splitlines()) == 21
    assert pushed(client) == [f"{URL}1"]


def test_strict_stops_at_the_first(seed, client, tmp_path):
    lines = [f"{URL}{i}" for i in range(1500)]
    lines[1200] = "\x1b[2Jno url"
    (tmp_path / "f").write_text("\n".join(lines))
    code, out, err = seed("--file", "f", "--strict")
    assert code == 1
    assert out.startswith("1,200 seeds pushed")
    first, second = err.splitlines()
    assert first.startswith("f:1201: ")
    assert "\x1b" not in first
    assert second == "Stopped: 1,200 seeds pushed. To go on: --skip 1200"
    assert pushed(client) == lines[:1200]
    lines[1200] = f"{URL}mended"
    (tmp_path / "f").write_text("\n".join(lines))
    assert seed("--file", "f", "--strict", "--skip", "1200")[0] == 0
    assert pushed(client) == lines


def test_sources_are_read_one_after_the_other(seed, client, tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(f"{URL}2\n{URL}3".encode()))
    (tmp_path / "b").write_bytes(f"{URL}4\n".encode())
    args = (f"{URL}1", "--file", "a.gz", "--file", "b")
    assert seed(*args)[0] == 0
    assert pushed(client) == [f"{URL}{i}" for i in (1, 2, 3, 4)]
    client.delete(KEY)
    seed(*args, "--skip", "2")
    assert pushed(client) == [f"{URL}3", f"{URL}4"]


def test_line_without_end_takes_no_memory(seed, client, tmp_path):
    (tmp_path / "f").write_bytes(b"x" * (5 << 20) + f"\n{URL}".encode())
    code, _, err = seed("--file", "f")
    assert code == 1
    assert err.startswith("f:1: the seed has ")
    assert len(err) < 300
    assert pushed(client) == [URL]


def test_file_that_is_cut_off_is_reported(seed, client, tmp_path):
    lines = "\n".join(f"{URL}{os.urandom(8).hex()}" for _ in range(5000))
    (tmp_path / "f.gz").write_bytes(gzip.compress(lines.encode())[:-9000])
    code, _, err = seed("--file", "f.gz")
    assert code == 1
    assert "f.gz: cannot be read any further" in err
    assert pushed(client) == lines.split("\n")[: client.llen(KEY)]
    assert client.llen(KEY) > 100


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (("--file", "none"), ConfigurationError, "'none' does not exist"),
        (("--file", "."), ConfigurationError, "is a folder"),
        ((URL, "--meta", "proxy=http://p/"), BadSeed, "'proxy' steers Scrapy"),
        ((URL, "--priority", str(2**70)), BadSeed, "priority is beyond"),
    ],
)
def test_wrong_use_is_said_before_anything_is_pushed(
    seed, client, args, error, message
):
    with pytest.raises(error, match=message):
        seed(*args)
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    "args",
    [("--meta", "shop"), ("--meta", "=x"), ("--skip", "-1"), ("--priority", "x")],
)
def test_wrong_arguments_are_refused(seed, capsys, args):
    with pytest.raises(SystemExit):
        seed(URL, *args)
    assert args[0] in capsys.readouterr().err


def test_key_of_another_type_is_named(seed, client):
    client.hset(KEY, "x", "y")
    with pytest.raises(ConfigurationError, match="is a hash"):
        seed(URL)


# Sitemaps


def test_sitemap_of_all_kinds_is_read(seed, client, web):
    pages = {}
    base = web(pages)
    pages |= {
        "/robots.txt": f"User-agent: *\nSitemap: {base}/index.xml\n",
        "/index.xml": index(
            f"{base}/a.xml", f"{base}/deep.xml", f"{base}/a.xml", "/b.gz"
        ),
        "/a.xml": urlset(f"{URL}1", f"{URL}2"),
        "/deep.xml": index(f"{base}/index.xml", f"{base}/moved.xml"),
        "/moved.xml": f"-> {base}/c.xml",
        "/b.gz": gzip.compress(urlset(f"{URL}4").encode()),
        "/c.xml": urlset(f"{URL}3"),
    }
    code, out, err = seed("--sitemap", f"{base}/robots.txt", USER_AGENT="me")
    assert (code, err) == (0, "")
    assert out == f"4 seeds pushed to {KEY}\n"
    assert pushed(client) == [f"{URL}{i}" for i in (1, 2, 3, 4)]
    assert set(web.agents) == {"me"}
    assert len(web.agents) == 7


def test_sitemaps_that_cannot_be_read_are_reported_and_the_others_pushed(
    seed, client, web, tmp_path
):
    (tmp_path / "secret.xml").write_text(urlset(URL))
    pages = {}
    base = web(pages)
    pages |= {
        "/index.xml": index(
            *(f"{base}/{name}" for name in ("404", "html", "empty", "cut.gz", "file")),
            f"file://{tmp_path}/secret.xml",
            "http://user:secret@127.0.0.1:1/",
            f"{base}/good.xml",
        ),
        "/html": "<html><body>Not found</body></html>",
        "/empty": "",
        "/cut.gz": gzip.compress(urlset(URL).encode())[:-10],
        "/file": f"-> file://{tmp_path}/secret.xml",
        "/good.xml": urlset(URL, "javascript:alert(1)"),
    }
    code, _, err = seed("--sitemap", f"{base}/index.xml")
    assert code == 1
    lines = err.splitlines()
    for line, (name, reason) in zip(
        lines,
        [
            ("/404", "answers HTTP 404"),
            ("/html", "is no sitemap"),
            ("/empty", "is no sitemap"),
            ("/cut.gz", "cut off"),
            ("/file", ""),
            ("secret.xml", "is no http or https URL"),
            ("http://", "user name"),
            ("/good.xml:2", "scheme 'javascript' is not allowed"),
        ],
        strict=True,
    ):
        assert name in line
        assert reason in line
    assert "user:secret" not in err
    assert pushed(client) == [URL]


def test_sitemaps_without_end_are_not_followed_for_ever(seed, client, web):
    pages = {f"/{i}": index(f"/{i + 1}") for i in range(100)}
    base = web(pages)
    code, _, err = seed("--sitemap", f"{base}/0")
    assert code == 1
    assert "/4: sitemaps inside each other, more than 5" in err
    assert len(web.agents) == 5


@pytest.mark.parametrize("url", ["sitemap.xml", "file:///etc/passwd", "ftp://x/s.xml"])
def test_only_http_is_a_sitemap(seed, url):
    code, _, err = seed("--sitemap", url)
    assert code == 1
    assert f"{url}: is no http or https URL" in err


# In a project


@pytest.mark.keeps("first", reason="redis_key names it")
def test_spider_says_where_seeds_go_and_what_they_may_be(project, client):
    project.spider(
        SEEDED.replace('"seeded"\n', '"seeded"\n    redis_key = ["first", "second"]\n')
    )
    seeds = [f'{{"url": "{URL}", "callback": "{name}"}}' for name in ("parse", "oops")]
    code, out, err = seed_in_project(
        project, "seeded", *seeds, FRONTIER_SEED_META=["p"]
    )
    assert code == 1
    assert "1 seed pushed to first" in out
    assert "argument:2: the callback is not allowed: Seeded has no method 'oops'" in err
    assert client.llen("first") == 1


def test_spider_that_reads_no_seeds_is_named(project):
    project.spider('class Plain(Spider):\n    name = "plain"\n')
    code, out, err = seed_in_project(project, "plain", URL)
    assert (code, out) == (2, "")
    assert "'plain' reads no seeds" in err


def test_pushed_seeds_are_crawled_while_workers_are_idle(project, site, redis_server):
    project.spider(SEEDED)
    worker = project.crawl("seeded")
    worker.wait_open()
    lines = "\n".join(f"{site.url}/page/{i}" for i in range(50))
    with seed_process(
        project.folder,
        *("seeded", "--sitemap", f"{site.url}/sitemap/20", "--file", "-"),
        settings={"REDIS_URL": redis_server.url},
        stdin=subprocess.PIPE,
    ) as process:
        out, err = process.communicate(lines, timeout=200)
    assert (process.returncode, err) == (0, "")
    assert out == "70 seeds pushed to seeded:start_urls\n"
    paths = [f"/page/{i}" for i in range(50)] + [f"/page/map-{i}" for i in range(20)]
    wait_until(
        lambda: sorted(project.recorded("path")) == sorted(paths), "all pages, once"
    )
    worker.interrupt()
    assert wait_all([worker]) == [0]


# As a process


def test_lines_are_piped_in_and_ctrl_c_says_how_far_it_came(
    tmp_path, client, redis_server
):
    process = seed_process(
        tmp_path, "books", "--new", "--redis", redis_server.url, stdin=subprocess.PIPE
    )
    with process:
        process.stdin.write("".join(f"{URL}{i}\n" for i in range(700)))
        process.stdin.flush()
        wait_until(lambda: client.llen(KEY) == 500, "the first batch")
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 130
        [line] = process.stderr.read().splitlines()
        assert line in {
            "Stopped: 500 seeds pushed. To go on: --skip 500",
            # Redis had them, and its answer was not read yet.
            (
                "Stopped: 0 seeds pushed. To go on: --skip 0 (it is not known whether Redis"
                " has the 500 behind them; if so: --skip 500)"
            ),
        }
        process.stdin.close()


def test_redis_that_goes_away_midway_is_said_with_the_line_to_go_on_from(
    seed, client, redis_server, tmp_path
):
    lines = [f"{URL}{i}" for i in range(20_000)]
    (tmp_path / "f").write_text("\n".join(lines))
    with Proxy(redis_server.port) as proxy:
        proxy.cut_request(mark=f"{URL}1000".encode(), refuse=True)
        code, out, err = seed("--file", "f", "--json", url=proxy.url(redis_server.url))
    report = json.loads(out)
    assert code == 1
    assert report["complete"] is False
    first, second = err.splitlines()
    assert "scrapy frontier seed: " in first
    assert f"To go on: --skip {report['skip']}" in second
    assert client.llen(KEY) >= 1000
    # What is unknown is one batch at the most.
    assert 0 <= client.llen(KEY) - report["skip"] <= 500
    assert report["skip"] == report["pushed"]
    assert pushed(client) == lines[: client.llen(KEY)]


@pytest.mark.parametrize("hidden", [False, True], ids=["rich", "plain"])
def test_terminal_sees_progress_of_a_long_file(tmp_path, client, redis_server, hidden):
    (tmp_path / "f").write_text(
        "".join(f"{URL}{i}\n" for i in range(120_000)) + "bad\n"
    )
    path = package_parent()
    if hidden:
        (tmp_path / "rich.py").write_text("raise ImportError")
        path = os.pathsep.join((str(tmp_path), path))
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "scrapy", "frontier", "seed", "books", "--new"]
    command += ["--redis", redis_server.url, "--file", "f"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    try:
        while chunk := os.read(main, 4096):
            seen += chunk
    except OSError:
        pass  # what Linux says when the other end is closed
    with process:
        out = process.stdout.read()
    os.close(main)
    assert out == b"120,000 seeds pushed to books:start_urls; 1 not pushed, see above\n"
    assert b"seeds pushed" in seen
    assert b"f:120001: the url has no scheme" in seen
    assert client.llen(KEY) == 120_000
