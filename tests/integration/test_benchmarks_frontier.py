"""The benchmarks of the frontier alone work, in small. What they find is not tested."""

from __future__ import annotations

import json

import pytest

from scrapy_dist.core.frontier import NewRequest
from tests.benchmarks import (
    blocking,
    capacity,
    host_capacity,
    long_queues,
    memory,
    report,
)
from tests.benchmarks.capacity import Court, Load, Player, Predecessor
from tests.benchmarks.figures import Curve, Figure
from tests.benchmarks.light import KEYS, LightClient, fill_seen, fingerprint
from tests.benchmarks.prober import Prober


@pytest.mark.parametrize("compact", [False, True])
def test_a_light_client_stores_leases_and_filters(redis_server, compact):
    with LightClient(redis_server.port, compact=compact) as client:
        client.register()
        new = [
            NewRequest(b"x", 0.0, fingerprint(n, compact=compact)) for n in range(300)
        ]
        client.store([new[:100], new[100:200], new[200:]])
        client.store([new[:100]])
        assert len(client.lease(100)) == 100
        assert client.connection.command("ZCARD", KEYS.requests) == 200


@pytest.mark.parametrize("compact", [False, True])
def test_a_frontier_is_filled_with_fingerprints_only(redis_server, compact):
    with LightClient(redis_server.port, compact=compact) as client:
        client.register()
        fill_seen(client, 0, 2345, compact=compact)
        command = client.connection.command
        assert command("ZCARD", KEYS.requests) == 0
        if compact:
            assert command("HGET", KEYS.dupefilter, "count") == b"2345"
        else:
            assert command("SCARD", KEYS.dupefilter) == 2345


def test_pages_are_counted_against_the_cpu_of_redis(monkeypatch):
    monkeypatch.setattr(capacity, "PENDING", 4000)
    load = Load(pages=20, links=20, known=19, clients=3, seconds=0.1, seen=1000)
    with Court() as court:
        for kind in (Player, Predecessor):
            run = court.run(kind, load)
            assert run.pages > 0
            assert run.cpu > 0
        run = court.run(Player, Load(seconds=0.1))
        # What was acknowledged is what new requests took the place of.
        pending = court.connection.command("ZCARD", KEYS.requests)
        leased = court.connection.command("ZCARD", KEYS.leases)
        assert pending + leased == capacity.PENDING
        assert run.pages % 100 == 0


def test_hosts_are_measured(monkeypatch):
    towns = [host_capacity.Town(*town) for town in ((1, 3000, 1), (300, 10, 1))]
    monkeypatch.setattr(host_capacity, "TOWNS", towns)
    monkeypatch.setattr(host_capacity, "SECONDS", 0.1)
    *found, host, leases, _ = host_capacity.run(quick=True, rounds=1)
    assert len(found) == 4
    assert all(figure.ours > 0 for figure in found)
    assert "300 hosts" in found[2].name
    assert 60 < host.ours < 200
    assert leases.met


def test_memory_is_measured(monkeypatch):
    monkeypatch.setattr(memory, "QUICK_SIZES", (1000, 3000))
    monkeypatch.setattr(memory, "_CHECKS", 400)
    found = memory.run(True, 1)
    figures = [part for part in found if isinstance(part, Figure)]
    by_name = {figure.name: figure.ours for figure in figures}
    default = by_name["bytes per fingerprint, default set, 3,000 of them"]
    compact = by_name["bytes per fingerprint, CompactDupeFilter, 3,000 of them"]
    assert 60 < default < 150
    assert 8 < compact < 30
    assert 100 < figures[0].ours < figures[0].base


def test_a_long_queue_is_measured_beside_a_short_one(redis_server, make_redis):
    short = make_redis()
    sizes = (5_000, 10_000, 12_000)
    lease, commit, curve = long_queues._costs(redis_server.port, short.port, sizes)
    for figure in (lease, commit):
        assert "10,000 pending, against 5,000" in figure.name
        assert figure.ours > 0
        assert figure.base > 0
    assert isinstance(curve, Curve)
    assert [size for size, _ in curve.series["lease"]] == list(sizes)
    with redis_server.client() as ours, short.client() as theirs:
        pending = KEYS.requests
        assert (ours.zcard(pending), theirs.zcard(pending)) == (12_000, 5_000)


WORK = """
local since = redis.call('TIME')
repeat
  local now = redis.call('TIME')
until (now[1] - since[1]) * 1000000 + now[2] - since[2] > 100000
"""


@pytest.mark.parametrize("command", [("DEBUG", "SLEEP", "0.1"), ("EVAL", WORK, "0")])
def test_what_blocks_redis_is_seen(redis_server, command):
    def block() -> None:
        with redis_server.client() as client:
            client.execute_command(*command)

    with Prober(redis_server.port) as prober:
        watched = prober.watch(block)
    assert watched.slowest == command[0]
    assert watched.command_ms > 90
    assert watched.ping_ms > 50
    # It does nothing in its sleep.
    assert (watched.working_ms > 25) == (command[0] == "EVAL")


def test_every_operation_on_a_large_frontier_is_watched(redis_server, monkeypatch):
    monkeypatch.setattr(blocking, "IDLE", 0.1)
    monkeypatch.setattr(blocking, "ROUNDS", 1)
    figures = blocking.blocks(redis_server, 1000)
    assert len({figure.name for figure in figures}) == 7
    assert all(figure.met is not None for figure in figures)


def test_a_report_has_a_table_json_and_plots(tmp_path):
    pytest.importorskip("matplotlib")
    name = "pages/s of one worker, 20 links a page, Redis {}"
    figures = [
        Figure(name.format("on loopback"), 190.0, "pages/s", 200.0, "memory", 0.95),
        Figure(name.format("1 ms away"), 180.0, "pages/s", 200.0, "memory", 0.9),
        Figure("the same, Redis 1 ms away, against scrapy-redis", 1.0, "pages/s", 26.0),
        Figure("a figure", 12345.6, "us", target="<= 3", met=False, note="why"),
    ]
    curve = Curve("Title", "x", "y", {"a": [(10, 1), (1e6, 2)]}, "curve", log_x=True)
    (bars,) = report.rates(figures)
    assert bars.labels == ["loopback", "1 ms"]
    assert bars.series["scrapy-redis"] == [(1, 0.13)]
    info = report.circumstances()
    text = report.table({"section": figures}, info)
    assert "12,346" in text
    assert "MISSED" in text
    report.write(tmp_path, text, {"section": figures}, [bars, curve], info)
    data = json.loads((tmp_path / "figures.json").read_text())
    assert data["figures"]["section"][3]["met"] is False
    for file in ("speed.png", "curve.png"):
        assert (tmp_path / file).read_bytes().startswith(b"\x89PNG")
