"""When the supervisor of the embedded Redis ends it, on a real server."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import redis

from scrapy_dist.redis_client.embedded import files
from scrapy_dist.redis_client.embedded import supervisor as supervisors
from scrapy_dist.redis_client.embedded.talk import clients_of, reply_of
from tests.support.redis_server import find_binary
from tests.support.wait import wait_until


@pytest.fixture
def supervisor():
    """Of a server that runs; it is not watched unless the test does that."""
    with tempfile.TemporaryDirectory(prefix="sup-") as name:
        directory = Path(name)
        path = directory / files.SOCKET
        lock = (directory / files.SUPERVISOR_LOCK).open("wb")
        made = supervisors._Supervisor(directory, path, 0.0, lock)
        made.child = supervisors.start_server(find_binary(), directory, path)
        try:
            wait_until(lambda: reply_of(path, "PING") == "+PONG", "the server")
            yield made
        finally:
            made.child.kill()
            made.child.wait()
            lock.close()


def joined(supervisor):
    """Somebody who uses the server."""
    client = redis.Redis(unix_socket_path=str(supervisor.path))
    client.ping()
    return client


def leaves(supervisor, client):
    client.close()
    client.connection_pool.disconnect()
    wait_until(lambda: clients_of(supervisor.path)[0] == 1, "nobody is there")


def test_who_joins_after_the_look_keeps_the_server(supervisor):
    """The supervisor found it idle, and then somebody came, before it had the lock."""
    supervisor.is_idle()
    assert supervisor.is_idle()
    client = joined(supervisor)
    assert not supervisor.stop()
    assert client.incr("pages") == 1
    leaves(supervisor, client)
    assert supervisor.child.poll() is None


def test_who_was_there_for_a_moment_between_two_looks_counts(supervisor):
    supervisor.is_idle()
    assert supervisor.is_idle()
    leaves(supervisor, joined(supervisor))
    assert not supervisor.stop()
    # From that look on, nobody came.
    assert supervisor.stop()
    assert supervisor.child.wait() == 0


def test_the_first_look_at_a_running_server_finds_it_used(supervisor):
    """Nobody knows who was there before."""
    assert not supervisor.is_idle()
    assert supervisor.is_idle()


def test_a_server_that_does_not_answer_is_not_idle(supervisor, monkeypatch):
    supervisor.is_idle()
    monkeypatch.setattr(supervisors, "clients_of", lambda path: None)
    assert not supervisor.is_idle()
    assert not supervisor.stop()
    assert supervisor.child.poll() is None


def test_nothing_is_ended_while_somebody_starts_or_joins(supervisor):
    supervisor.is_idle()
    with files.locked(supervisor.directory, 1):
        assert not supervisor.stop()
    assert supervisor.child.poll() is None


def test_what_was_written_is_there_when_it_is_started_again(supervisor):
    client = joined(supervisor)
    client.set("page", "7")
    leaves(supervisor, client)
    supervisor.is_idle()
    assert supervisor.stop()
    supervisor.child.wait()
    assert not supervisor.path.exists()

    directory, path = supervisor.directory, supervisor.path
    supervisor.child = supervisors.start_server(find_binary(), directory, path)
    wait_until(lambda: reply_of(path, "PING") == "+PONG", "the server")
    client = joined(supervisor)
    assert client.get("page") == b"7"
    # Nothing is thrown away to make room, and nothing waits in memory alone.
    config = client.config_get("*")
    leaves(supervisor, client)
    assert config["maxmemory-policy"] == "noeviction"
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["aof-load-truncated"] == "yes"
    assert config["port"] == "0"
    assert config["unixsocketperm"] == "700"


def test_a_second_server_is_not_started_on_the_same_data(supervisor):
    directory = supervisor.directory
    other = supervisors.start_server(find_binary(), directory, directory / "other.sock")
    assert other is None


class Clock:
    """Stands for the module `time`: each sleep lets it go on."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A supervisor without a server; *idle* says what its looks find, in turn."""

    class Watched(supervisors._Supervisor):
        idle: list[bool] = []
        stopped_at = None

        def has_server(self):
            return bool(self.idle)

        def is_idle(self):
            return self.idle.pop(0)

        def stop(self):
            self.stopped_at = clock.now
            return True

    clock = Clock()
    monkeypatch.setattr(supervisors, "time", clock)
    with (tmp_path / "lock").open("wb") as lock:
        yield Watched(tmp_path, tmp_path / files.SOCKET, 10.0, lock)


def test_it_ends_when_nobody_used_it_for_all_of_the_linger_time(watched):
    watched.idle = [False] * 5 + [True] * 100
    watched.run(None)
    # The last look that found it in use was at 4 s.
    assert watched.stopped_at == 14.0


def test_each_use_lets_the_linger_time_begin_anew(watched):
    watched.idle = [True] * 9 + [False] + [True] * 9 + [False] + [True] * 100
    watched.run(None)
    assert watched.stopped_at == 29.0


def test_it_goes_on_when_it_was_not_to_be_ended(watched):
    watched.idle = [True] * 30
    ends = iter([False, False, True])
    watched.stop = lambda: next(ends)
    watched.run(None)
    assert next(ends, None) is None
