"""Every setting's default. Seconds are floats, sizes are bytes.

The names are those of the settings; scrapy-redis names keep their name and meaning,
new ones begin with ``FRONTIER_``. README's table is made from this module.
"""

from __future__ import annotations

from typing import Any

# --- Connection ------------------------------------------------------------------

#: URL of Redis: ``redis://:password@host:6379/0``, ``rediss://…`` for TLS,
#: ``unix:///path/redis.sock``, and those of REDIS_SENTINELS and REDIS_CLUSTER. For tests
#: ``memory://``: a frontier in this process.
REDIS_URL: str | None = None
#: Host of Redis. Without it and REDIS_URL an embedded Redis is used.
REDIS_HOST: str | None = None
#: Sentinels, as ``[("host", 26379), …]`` or ``"host:26379,…"``. As REDIS_URL:
#: ``redis+sentinel://:password@host1,host2/mymaster/0``.
REDIS_SENTINELS: list[tuple[str, int]] = []
#: Name that the sentinels know the master by.
REDIS_SENTINEL_MASTER: str = "mymaster"
#: Some nodes of a Redis Cluster, as ``[("host", 6379), …]`` or ``"host:6379,…"``. As
#: REDIS_URL: ``redis+cluster://:password@host1:6379,host2:6379``.
REDIS_CLUSTER: list[tuple[str, int]] = []
#: Port of Redis.
REDIS_PORT: int = 6379
#: Number of the Redis database.
REDIS_DB: int = 0
#: Encoding of seeds and of the synchronous client.
REDIS_ENCODING: str = "utf-8"
#: Whether the synchronous client (``spider.server``) returns text. The frontier itself
#: always reads bytes.
REDIS_DECODE_RESPONSES: bool = False
#: More arguments for redis-py's client. The frontier itself connects within 5 s unless
#: ``socket_connect_timeout`` is set, and never waits longer than 30 s for an answer.
REDIS_PARAMS: dict[str, object] = {
    "socket_timeout": 30.0,
    "socket_connect_timeout": 30.0,
}

# --- Scheduler -------------------------------------------------------------------

#: Whether the frontier is kept when the crawl has finished.
SCHEDULER_PERSIST: bool = False
#: Whether the first worker deletes what an earlier crawl left.
SCHEDULER_FLUSH_ON_START: bool = False
#: Key of the pending requests.
SCHEDULER_QUEUE_KEY: str = "%(spider)s:requests"
#: Discipline: the order in which pending requests are handed out.
SCHEDULER_QUEUE_CLASS: str = "scrapy_dist.queue.SlotQueue"
#: Slot that a request belongs to, where slots take turns: ``"host"``, ``"domain"`` (the
#: registered one), or a function (or its path) that takes the request and returns a name.
FRONTIER_SLOT: object = "host"
#: Whether Scrapy's delays and places of slots hold for all workers together; else they
#: count for each of them.
FRONTIER_POLITENESS: bool = False
#: Seconds for which a worker of a polite crawl keeps a slot while others wait for one.
FRONTIER_TURN: float = 2.0
#: Key of the fingerprint set.
SCHEDULER_DUPEFILTER_KEY: str = "%(spider)s:dupefilter"
#: Whether every filtered duplicate is logged.
DUPEFILTER_DEBUG: bool = False
#: Module with ``dumps`` and ``loads`` for requests in Redis; None: MessagePack.
SCHEDULER_SERIALIZER: str | None = None
#: Seconds that a worker waits after the frontier is drained before it closes.
SCHEDULER_IDLE_BEFORE_CLOSE: float = 0.0

# --- Seeds, items, stats ---------------------------------------------------------

#: Key of the seeds.
REDIS_START_URLS_KEY: str = "%(name)s:start_urls"
#: Whether the seeds are a set. The type of the key decides; this is a check.
REDIS_START_URLS_AS_SET: bool = False
#: Whether the seeds are a sorted set. The type of the key decides; this is a check.
REDIS_START_URLS_AS_ZSET: bool = False
#: Most seeds that a worker takes at once; None: as many as it can crawl now.
REDIS_START_URLS_BATCH_SIZE: int | None = None
#: Seconds without activity of any worker after which a RedisSpider closes; 0: never.
MAX_IDLE_TIME_BEFORE_CLOSE: float = 0.0
#: Key of the items.
REDIS_ITEMS_KEY: str = "%(spider)s:items"
#: Path of a function that turns an item into text or bytes; None: JSON.
REDIS_ITEMS_SERIALIZER: str | None = None
#: Key of the cluster-wide stats.
STATS_KEY: str = "%(spider)s:stats"

# --- Frontier --------------------------------------------------------------------

#: Name of this crawl if one spider runs as several crawls at once. ``%(spider)s`` in
#: keys then stands for ``spider:job``.
FRONTIER_JOB: str | None = None
#: Seconds of silence after which a worker is dead and loses its leases.
FRONTIER_WORKER_TTL: float = 60.0
#: Dead workers after which a request that they held has failed. With 1 nothing that a
#: dead worker held is handed out again.
FRONTIER_MAX_DELIVERIES: int = 3
#: Seconds from the first unsent change to the exchange that sends it; twice as long while
#: Redis has requests enough for all workers.
FRONTIER_FLUSH_INTERVAL: float = 0.05
#: Unsent requests and items above which a worker takes no new request.
FRONTIER_OUTBOX_LIMIT: int = 10_000
#: Most requests and items of one page that are stored in one step with its ack. More are
#: stored in parts, and a part may come twice after a death.
FRONTIER_COMMIT_CHUNK: int = 1000
#: Seconds without an answer of Redis after which a worker closes with the reason
#: ``redis_unavailable`` and exit code 1; 0: never.
FRONTIER_REDIS_PATIENCE: float = 0.0
#: Fingerprints that a worker remembers to answer duplicates without Redis.
FRONTIER_LOCAL_FINGERPRINTS: int = 50_000
#: Bytes of the largest request that is stored or read.
FRONTIER_MAX_PAYLOAD: int = 1_048_576
#: URL schemes, beside http and https, of requests that are shared. Requests of others
#: stay in the worker that made them.
FRONTIER_SCHEMES: list[str] = []
#: Characters of the longest URL that is stored or read. A request with a longer one stays
#: in its worker.
FRONTIER_URL_LENGTH: int = 65_536
#: Text of at least 16 characters that requests in Redis are signed with; the same for all
#: workers and commands. None: unsigned.
FRONTIER_SECRET: str | None = None
#: Paths of Request subclasses, beyond Scrapy's own, that may be read from Redis.
FRONTIER_REQUEST_CLASSES: list[str] = []
#: Paths of classes whose objects, in ``meta`` and ``cb_kwargs``, may be stored and read.
FRONTIER_SHARED_CLASSES: list[str] = []
#: Dead letters above which what fails stays among the suspects; none is pushed out.
FRONTIER_FAILED_LIMIT: int = 10_000
#: Whether to work with a Redis whose maxmemory-policy evicts keys, i.e. loses requests.
FRONTIER_ALLOW_EVICTION: bool = False
#: Seconds for which an ended task and its results are kept; 0: no results are kept, and
#: the tasks for a day.
FRONTIER_RESULT_TTL: float = 86_400.0
#: Seconds that a closing worker waits for Redis to take its last results.
FRONTIER_CLOSE_TIMEOUT: float = 20.0
#: Whether garbage collection leaves out, during the crawl, what was there at its start
#: (``gc.freeze``). Off: for a program that freezes by itself.
FRONTIER_GC_FREEZE: bool = True

# --- Frontier: what seeds may say ------------------------------------------------

#: URL schemes that a seed may have.
FRONTIER_SEED_SCHEMES: list[str] = ["http", "https"]
#: Bytes of the largest seed.
FRONTIER_SEED_MAX_SIZE: int = 262_144
#: ``meta`` keys that seeds may set although they steer Scrapy (``proxy``, …) or a plugin
#: (``playwright``, …).
FRONTIER_SEED_META: list[str] = []
#: Domains that seeds, and with the add-on their redirects, may lead to; empty: any. The
#: word ``allowed_domains`` stands for the spider's.
FRONTIER_SEED_DOMAINS: list[str] = []
#: Whether seeds, and their redirects, may lead to loopback, link-local and private
#: addresses. False needs the add-on, or its downloader middleware.
FRONTIER_SEED_PRIVATE: bool = True
#: Whether unknown keys of a JSON seed are form fields, as in scrapy-redis.
FRONTIER_SEED_FORM_FIELDS: bool = False

# --- Embedded Redis --------------------------------------------------------------

#: Folder of the embedded Redis; relative paths are below the project's ``.scrapy``.
FRONTIER_EMBEDDED_DIR: str = "frontier"
#: Seconds without a client after which the embedded Redis saves its data and ends.
FRONTIER_EMBEDDED_LINGER: float = 60.0

#: Password of ``scrapy frontier web``, '' for none: then only its own machine reaches the page.
#: The environment variable of that name counts where this is empty.
FRONTIER_WEB_PASSWORD: str = ""

# --- Frontier: keys --------------------------------------------------------------

#: Key of the leases.
FRONTIER_LEASES_KEY: str = "%(spider)s:leases"
#: Key of the leased requests' payloads.
FRONTIER_LEASED_KEY: str = "%(spider)s:leased"
#: Key of the suspects.
FRONTIER_SUSPECTS_KEY: str = "%(spider)s:suspects"
#: Key of the fingerprints of this crawl's start requests.
FRONTIER_STARTED_KEY: str = "%(spider)s:started"
#: Key of the workers' last beats.
FRONTIER_WORKERS_KEY: str = "%(spider)s:workers"
#: Key of what the frontier knows of itself and of its workers.
FRONTIER_STATE_KEY: str = "%(spider)s:state"
#: Key of the dead letters.
FRONTIER_FAILED_KEY: str = "%(spider)s:failed"
#: Key of what ``scrapy frontier pause`` and ``workers --stop`` ask of the workers.
FRONTIER_CONTROL_KEY: str = "%(spider)s:control"
#: Key of the records of finished crawls, each kept for a day.
FRONTIER_HISTORY_KEY: str = "%(spider)s:history"
#: Key of the slots that have pending requests, in the order of their turns.
FRONTIER_SLOTS_KEY: str = "%(spider)s:slots"
#: Key of the slots without pending requests whose delay is not over.
FRONTIER_RESTING_KEY: str = "%(spider)s:resting"
#: Key of the slots whose delay or places are not as the settings say.
FRONTIER_POLITENESS_KEY: str = "%(spider)s:politeness"
#: Key of the tasks: seeds with an id.
FRONTIER_TASKS_KEY: str = "%(spider)s:tasks"
#: Key of the tasks' results.
FRONTIER_RESULTS_KEY: str = "%(spider)s:results"
#: Key of when tasks have ended.
FRONTIER_TASKS_ENDED_KEY: str = "%(spider)s:tasks_ended"

# --- Constants of scrapy-redis that are no settings, or have another name there ---

_constants: dict[str, object] = {
    "DUPEFILTER_KEY": "dupefilter:%(timestamp)s",
    "PIPELINE_KEY": REDIS_ITEMS_KEY,
    "REDIS_CONCURRENT_REQUESTS": 16,
    "SCHEDULER_DUPEFILTER_CLASS": "scrapy_dist.dupefilter.RFPDupeFilter",
    "START_URLS_KEY": REDIS_START_URLS_KEY,
    "START_URLS_AS_SET": REDIS_START_URLS_AS_SET,
    "START_URLS_AS_ZSET": REDIS_START_URLS_AS_ZSET,
    "MAX_IDLE_TIME": 0,
}

#: redis-py's class, imported on first use: the embedded Redis' supervisor needs none.
_lazy = ("REDIS_CLS",)


def __getattr__(name: str) -> Any:
    if name in _lazy:
        import redis  # noqa: PLC0415

        return redis.StrictRedis
    if name in _constants:
        return _constants[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# For "from scrapy_dist.defaults import *", too.
__all__ = [  # noqa: PLE0604
    *(name for name in dir() if name.isupper() and not name.startswith("_")),
    *_constants,
    *_lazy,
]
