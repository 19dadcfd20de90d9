"""A page that is set aside, and put back, may follow once more what it had kept."""

from __future__ import annotations

from tests.support.commands import run_frontier
from tests.support.project import assert_finished
from tests.support.redis_state import failed
from tests.support.wait import wait_until

SPIDER = """
class Kept(Spider):
    name = "kept"
    url = None

    async def start(self):
        yield Request(f"{self.url}/page/start", self.CALLBACK, dont_filter=True)

    def CALLBACK(self, response):
        record(self, page=response.url)
        meta = {"frontier_local": True}
        yield Request(f"{self.url}/gate/child", self.child, meta=meta)

    def child(self, response):
        record(self, child=response.url)
"""


def test_kept_child_is_crawled_after_a_retry(project, site, redis_server):
    project.spider(SPIDER.replace("CALLBACK", "page"))
    [module] = (project.folder / "shop" / "spiders").glob("spiders_*.py")
    whole = module.read_text()
    args = {"url": site.url}
    # given a worker that is killed while it follows what its page has kept
    doomed = project.crawl("kept", args=args)
    wait_until(lambda: site.hits()["/gate/child"] == 1, "the child is asked for")
    doomed.kill()
    # when the code of the next one cannot read the page, and later it can
    module.write_text(
        whole.replace("page(", "renamed(").replace("self.page", "self.renamed")
    )
    second = project.crawl("kept", args=args)
    with redis_server.client() as client:
        wait_until(lambda: failed(client, "kept"), "the page is set aside")
        [letter] = failed(client, "kept")
        assert letter["claims"]
        second.interrupt()
        second.wait()
        assert project.recorded("child") == []
        module.write_text(whole)
        settings = {**project.settings, "REDIS_URL": redis_server.url}
        ran = run_frontier(project.folder, "retry", "kept", "--all", settings=settings)
        assert ran.returncode == 0, ran.stderr
    # then the child is crawled
    site.open_gate("child")
    assert_finished([project.crawl("kept", args=args)])
    assert project.recorded("child")
