"""The tasks of README and of ``scrapy frontier help tasks``, word for word, with workers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys

import pytest

from scrapy_dist import AsyncClient, Client
from tests.support.commands import run_here
from tests.support.documents import blocks
from tests.support.project import package_parent, wait_all

URL = "redis://:password@redis.example.org:6379/0"


def block_with(document: str, words: str) -> str:
    found = [b.text for b in blocks("python") if b[0] == document and words in b.text]
    [text] = found
    return text


@pytest.mark.keeps("pdfs:*", reason="the crawl is stopped")
def test_master_and_workers(project, site, redis_server, tmp_path, capsys):
    project.spider(block_with("tasks", "PdfSpider"))
    settings = {"ITEM_PIPELINES": {"scrapy_dist.pipelines.RedisPipeline": 400}}
    urls = [f"{site.url}/page/{n}" for n in range(20)] + [f"{site.url}/status/500"]
    workers = project.crawl_many(2, "pdfs", settings=settings, frontier="addon")

    # The master of the topic, as a program.
    master = tmp_path / "master.py"
    master.write_text(block_with("tasks", "def main(url, urls)"))
    env = {**os.environ, "PYTHONPATH": package_parent()}
    command = [sys.executable, str(master), redis_server.url, *urls]
    told = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=200, check=True
    ).stdout
    first, *lines = told.splitlines()
    assert "done=20, failed=1" in first
    assert len(lines) == 21
    assert (
        len([line for line in lines if re.search(r" done \S+:\d+  \[{'url'", line)])
        == 20
    )
    [failed] = [line for line in lines if " failed " in line]
    assert "500" in failed
    assert failed.endswith(" []")

    # README's, in this process: another batch of that name is the same batch.
    source = block_with("README", "submit_many").replace("myspider", "pdfs")
    assert URL in source
    more = [f"{site.url}/page/{n}" for n in range(20, 25)]
    exec(source.replace(URL, redis_server.url), {"Client": Client, "urls": more})
    first, *lines = capsys.readouterr().out.splitlines()
    assert "done=25, failed=1" in first
    assert len(lines) == 26

    # And that of the topic on the client, in an event loop; and the commands.
    source = block_with("client", "AsyncClient").replace("myspider", "pdfs")
    names: dict[str, object] = {}
    exec(source.replace("redis://redis.example.org:6379/0", redis_server.url), names)

    async def read() -> None:
        crawl = names["crawl"]([f"{site.url}/page/30"])  # type: ignore[operator]
        [(task, [item])] = [found async for found in crawl]
        assert (task.state, item["url"]) == ("done", f"{site.url}/page/30")

    asyncio.run(read())
    there = ("--redis", redis_server.url)
    code, out, _ = run_here("tasks", "pdfs", "--json", "--state", "done", *there)
    assert code == 0
    assert len(out.splitlines()) == 26
    id_ = json.loads(out.splitlines()[0])["id"]
    code, out, _ = run_here("task", "pdfs", id_, "--results", *there)
    assert json.loads(out)["url"].startswith(site.url)
    code, out, _ = run_here("items", "pdfs", *there)
    assert code == 0
    assert len(out.splitlines()) == 26

    # A seed that any program pushes is waited for before a worker knows it.
    with Client(redis_server.url, "pdfs") as client:
        client.seed({"url": f"{site.url}/page/31", "id": "raw", "batch": "raw"})
        assert client.wait_many(["raw"], timeout=100)[0].items == 1
        assert client.wait_batch("raw", timeout=100).done == 1

    async def stop() -> None:
        async with AsyncClient(redis_server.url, "pdfs") as client:
            assert await client.stop("all") == 2
            assert wait_all(workers) == [0, 0]
            assert (await client.batch("monday")).done == 25
            assert len(await client.results(id_)) == 1

    asyncio.run(stop())
    assert set(site.hits().values()) == {1}
    assert site.hits().total() == 28
