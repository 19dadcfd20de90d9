"""README's start, word for word: its settings, its spider, its commands, its Client."""

from __future__ import annotations

from tests.support.commands import run_frontier
from tests.support.documents import blocks, command_lines


def block_with(words: str) -> str:
    [text] = [b.text for b in blocks("python") if b[0] == "README" and words in b.text]
    return text


def test_start(project, site, redis_server, capsys):
    settings: dict[str, object] = {}
    exec(block_with("ADDONS"), {}, settings)
    project.settings = {**settings, "MAX_IDLE_TIME_BEFORE_CLOSE": 2}
    project.spider(block_with("RedisSpider"))
    here = {**project.settings, "REDIS_URL": redis_server.url}

    [seed, *_] = [w for d, w in command_lines() if d == "README" and "seed" in w]
    words = [site.url + "/page/1" if "//" in word else word for word in seed[2:]]
    assert run_frontier(project.folder, *words, settings=here).returncode == 0

    worker = project.crawl("myspider")
    source = block_with("import Client")
    source = source.replace("https://example.org/", f"{site.url}/page/2")
    url = "redis://:password@redis.example.org:6379/0"
    assert url in source
    exec(source.replace(url, redis_server.url), {})
    pending, *items = capsys.readouterr().out.splitlines()
    assert pending.isdigit()
    assert len(items) == 2
    assert all(item.startswith("{'title': ") for item in items)

    assert worker.wait() == 0
    assert worker.reason() == "finished"
    assert site.hits().total() == 2
