"""``scrapy frontier top``: its picture, its plain lines, and the terminal it leaves."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from rich.console import Console
from scrapy.settings import Settings

from scrapy_dist.admin.task_glance import Glance
from scrapy_dist.base import times
from scrapy_dist.brokers.redis.keys import Keys
from scrapy_dist.brokers.redis.version import FORMAT
from scrapy_dist.commands import project, top
from scrapy_dist.commands.terminal.desk import Desk, Face, Page
from scrapy_dist.commands.terminal.picture import History
from scrapy_dist.commands.terminal.screen import Lines, Look
from scrapy_dist.commands.terminal.view import View, as_svg, draw
from scrapy_dist.core.dead_letters import DeadLetter
from scrapy_dist.core.hosts import Host, Hosts
from scrapy_dist.core.status import Status, WorkerStatus
from scrapy_dist.core.tasks import Batch, Task, TaskState
from scrapy_dist.exceptions import ConfigurationError, RedisUnavailable
from tests.support.frontiers import member
from tests.support.project import package_parent
from tests.support.wait import wait_until

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
#: What switches to a terminal's other screen, and back.
OTHER_SCREEN, FIRST_SCREEN, CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


def a_worker(number, **changed):
    told = {
        "worker": f"web:{number}",
        "number": str(number),
        "alive": True,
        "since": NOW,
        "silent_for": 0.4,
        "pages": 1000 + number,
        "pages_per_second": 20.5,
        "failed": 0,
        "leased": 16,
        "memory": 92_000_000,
        "stopping": False,
    }
    return WorkerStatus(**{**told, **changed})


def a_status(**changed):
    told = {
        "spider": "shop",
        "job": None,
        "redis": "redis://localhost:6379/0",
        "time": NOW,
        "pending": 700,
        "leased": 32,
        "suspect": 0,
        "failed": 0,
        "seen": 4000,
        "seeds": 0,
        "items": 12,
        "pages": 1268,
        "pages_per_second": 41.0,
        "paused": False,
        "workers": (a_worker(1), a_worker(2)),
    }
    return Status(**{**told, **changed})


def a_letter(number, **changed):
    told = {
        "id": f"{number}-0",
        "kind": "request",
        "time_ms": 1_700_000_000_000,
        "deliveries": 1,
        "worker": "web:1",
        "reason": f"HTTP status {number}",
        "payload": b'{"url": "http://site.example/%d"}' % number,
    }
    return DeadLetter(**{**told, **changed})


def a_view(status=None, failures=(), rates=(), *, hosts=None, tasks=None, **face):
    trouble = face.pop("trouble", "")
    look = Look(status or a_status(), failures, hosts, tasks)
    return View(look, rates, Face(**face), trouble)


def drawn(view, width=100, height=24, **options):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(draw(view, height=height, **options))
    return console.file.getvalue().splitlines()


# The picture


def test_picture_shows_progress_rate_workers_and_failures():
    status = a_status(failed=2)
    lines = drawn(a_view(status, [a_letter(404), a_letter(500)], (10.0, 20.0, 40.0)))
    assert lines[0].startswith("shop  running  2 workers  redis://localhost:6379/0")
    text = "\n".join(lines)
    assert "63% of 2,000 known, about 17 s left" in text
    assert "41.0 pages/s in the last minute  ▃▅█" in text
    assert re.search(r"pages +pending +leased +suspect +failed +seeds", text)
    assert re.search(r"1,268 +700 +32 +0 +2 +0 +4,000 +12\b", text)
    assert re.search(r"web:2 +1,002 +20\.5 +16 +0 +0\.4 s +92 MB", text)
    assert re.search(
        r"2023-11-14 22:13:20 +http://site.example/404 +HTTP status 404", text
    )
    assert "q ends" in lines[-1]


def test_silent_and_stopping_workers_are_marked_and_the_living_come_first():
    workers = (
        a_worker(1, alive=False, silent_for=3700.0, memory=None),
        a_worker(2, stopping=True),
    )
    lines = drawn(a_view(a_status(workers=workers)))
    at = next(i for i, line in enumerate(lines) if line.startswith("worker"))
    assert lines[at + 1].startswith("web:2 stopping")
    assert re.match(r"web:1 silent +1,001 .*1 h 1 min +-", lines[at + 2])
    assert "1 silent" in lines[0]


def test_picture_of_nothing():
    status = a_status(pages=0, pending=0, leased=0, workers=(), pages_per_second=0.0)
    text = "\n".join(drawn(a_view(status)))
    assert "0% of 0 known" in text
    assert "no workers" in text


@pytest.mark.parametrize("height", [20, 24, 40])
def test_picture_fits_the_terminal(height):
    workers = tuple(a_worker(n) for n in range(100))
    letters = [a_letter(n) for n in range(8)]
    view = a_view(a_status(workers=workers, failed=8), letters, (1.0,) * 40)
    lines = drawn(view, height=height)
    assert len(lines) <= height
    assert "q ends" in lines[-1]
    assert re.search(r"and \d+ more", "\n".join(lines))


def test_picture_of_one_worker_says_so():
    lines = drawn(a_view(a_status(workers=(a_worker(1),))))
    assert "  1 worker  " in lines[0]


def test_picture_says_how_old_it_is_when_redis_is_away():
    lines = drawn(a_view(a_status(), trouble="Redis is away (why)."))
    assert lines[-1] == f"Redis is away (why). What is shown is of {times.shown(NOW)}."


def test_names_in_the_picture_cannot_move_the_cursor():
    evil = "x\x1b[2J\x07\u202e[red]y"
    status = a_status(spider=evil, job=evil, workers=(a_worker(1, worker=evil),))
    letter = a_letter(1, kind="seed", payload=evil.encode(), reason=evil)
    lines = drawn(a_view(status, [letter], trouble=""), width=300)
    assert all(char.isprintable() for line in lines for char in line)
    assert "[red]y" in "".join(lines)  # it is no markup either


def test_picture_fits_80_columns():
    status = a_status(pages=10**7, pending=10**7, seen=10**8, items=10**7, failed=1)
    lines = drawn(a_view(status, [a_letter(1)], (1.0,) * 40), width=80)
    assert "100,000,000" in "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert any(line.rstrip().endswith("█" * 40) for line in lines)


def test_picture_without_unicode():
    text = "\n".join(drawn(a_view(a_status(), rates=(1.0, 2.0)), ascii_only=True))
    assert "=#" in text


def some_hosts(count=3, **changed):
    hosts = [
        Host(f"h{n}.example", n, 100 - n, n, ("web:1",), 2.5, None)
        for n in range(count)
    ]
    told = {"slots": count, "looked_at": count, "waiting": 1, "owned": 2}
    told |= {"pending": 700, "polite": True}
    return Hosts(hosts=tuple(hosts), **{**told, **changed})


def test_hosts_are_shown_in_place_of_the_workers():
    lines = drawn(
        a_view(a_status(), [a_letter(404)], hosts=some_hosts(), page=Page.HOSTS)
    )
    [head] = [n for n, line in enumerate(lines) if line.split()[:1] == ["host"]]
    assert lines[head].split() == [
        *("host", "pending", "in", "flight", "owner", "delay", "next", "errors")
    ]
    assert re.split(" {2,}", lines[head + 2].strip()) == [
        *("h1.example", "99", "1", "web:1", "2.5 s", "-", "0")
    ]
    said = "3 of 3 hosts, 700 pending requests; 2 owned, 1 wait for their delay"
    assert said in lines[head + 4]
    assert not any("pages/s  leased" in line for line in lines)
    none = "\n".join(drawn(a_view(a_status(), hosts=some_hosts(0), page=Page.HOSTS)))
    assert "no host has a request" in none


@pytest.mark.parametrize("height", [10, 24, 50])
def test_hosts_fit_the_terminal_and_move_no_cursor(height):
    hosts = some_hosts(30)
    evil = Host("\x1b[2J\u202e", 1, 5, owners=("\x1b]0;x",))
    hosts = replace(hosts, hosts=(evil, *hosts.hosts))
    lines = drawn(a_view(a_status(), hosts=hosts, page=Page.HOSTS), height=height)
    assert len(lines) <= height
    assert any("x1b[2J" in line for line in lines) == (height > 10)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", ["h" * 80, "\u65e5" * 80])
def test_a_long_name_hides_no_numbers(name):
    hosts = some_hosts()
    hosts = replace(hosts, hosts=(Host(name, 9, 5), *hosts.hosts))
    lines = drawn(a_view(a_status(), hosts=hosts, page=Page.HOSTS))
    [head] = [line for line in lines if line.split()[:1] == ["host"]]
    assert head.split() == [
        *("host", "pending", "in", "flight", "owner", "delay", "next", "errors")
    ]
    assert any(line.startswith(name[:10]) and "…" in line for line in lines)
    status = a_status(workers=[replace(a_status().workers[0], worker=f"{name}:1")])
    lines = drawn(a_view(status))
    assert any({"worker", "pages", "beat", "memory"} <= {*x.split()} for x in lines)


def some_tasks(name, states=(*TaskState,), batches=1):
    ms = int(NOW.timestamp() * 1000)
    times = {"submitted_ms": ms - 70_000, "started_ms": ms - 65_000}
    tasks = [
        Task(
            f"{name}{n}",
            state,
            batch=name,
            open=n,
            failed=state is TaskState.FAILED,
            ended_ms=ms if state.is_end else 0,
            reason=name,
            **times,
        )
        for n, state in enumerate(states)
    ]
    groups = [Batch(f"{name}{n}", running=1, done=3) for n in range(batches)]
    return Glance(tasks, groups, is_all=False)


def test_tasks_and_batches_are_shown():
    status = a_status(tasks=3000, tasks_open=2)
    view = a_view(status, tasks=some_tasks("t"), page=Page.TASKS)
    lines = drawn(view, width=120)
    at = lines.index("t0  75 % of 4 tasks, 1 running")
    rows = [re.split(" {2,}", line.strip()) for line in lines[at + 2 : at + 8]]
    assert rows[0][:3] == ["task", "state", "open"]
    assert rows[2][:2] == ["t1", "running"]
    assert rows[4][:2] == ["t3", "failed"]
    assert rows[4][-3:] == ["1 min 5 s", "t", "t"]
    said = "5 of 3,000 tasks, 2 have not ended; there are too many to look at all"
    assert said in lines
    none = a_view(tasks=Glance([], [], is_all=True), page=Page.TASKS)
    assert "a seed with an id is one" in "\n".join(drawn(none))
    assert "looking for tasks" in "\n".join(drawn(a_view(page=Page.TASKS)))
    few = drawn(a_view(status, tasks=some_tasks("t", batches=9), page=Page.TASKS))
    assert "t4  " in "\n".join(few)


ALL_FACES = [*({"page": page} for page in Page), {"helps": True}, {"asks": True}]


@pytest.mark.parametrize("face", ALL_FACES, ids=str)
@pytest.mark.parametrize("width", [1, 7, 20, 40, 60, 80, 200])
@pytest.mark.parametrize("height", [1, 5, 24])
def test_any_page_fits_any_terminal(face, width, height):
    evil = "x\x1b[2J\x07\u202e[red]y\n"
    workers = tuple(a_worker(n, worker=evil, holds=(evil,)) for n in range(50))
    letters = [a_letter(n, reason=f"{evil}{n}", kind="seed") for n in range(50)]
    hosts = some_hosts(30)
    hosts = replace(hosts, hosts=(Host(evil, 1, 5, owners=(evil,)), *hosts.hosts))
    status = a_status(spider=evil, job=evil, failed=10**9, workers=workers)
    tasks = some_tasks(evil)
    view = a_view(
        status, letters, (1.0,) * 40, hosts=hosts, tasks=tasks, told=evil, **face
    )
    lines = drawn(view, width=width, height=height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert all(char.isprintable() for line in lines for char in line)


def test_narrow_terminals_keep_what_matters_most():
    lines = drawn(a_view(), width=40)
    assert "worker  pages  pages/s" in "\n".join(lines)
    assert "memory" not in "\n".join(lines)
    assert lines[-1] == "q ends  ? help  p pause  o overview"
    assert "pages 1,268  pending 700  leased 32" in map(str.rstrip, lines)
    assert "seeds 0  seen 4,000" in " ".join(lines)


def test_failures_are_grouped_by_reason():
    letters = [a_letter(n, reason="HTTP 500" if n % 3 else "timeout") for n in range(9)]
    lines = drawn(a_view(a_status(failed=70), letters, page=Page.FAILED), width=120)
    rows = [re.split(" {2,}", line.strip()) for line in lines]
    assert ["6", "2023-11-14 22:13:20", "HTTP 500", "http://site.example/1"] in rows
    assert ["3", "2023-11-14 22:13:20", "timeout", "http://site.example/0"] in rows
    assert "70 dead letters, of which the newest 9 are shown" in lines
    none = "\n".join(drawn(a_view(page=Page.FAILED)))
    assert "no dead letters" in none


def test_page_of_workers_has_all_of_them_and_their_urls():
    workers = tuple(a_worker(n, holds=(f"http://site.example/{n}",)) for n in range(9))
    view = a_view(a_status(workers=workers), page=Page.WORKERS)
    text = "\n".join(drawn(view, width=120))
    assert all(f"http://site.example/{n}" in text for n in range(9))


def test_keys_are_those_of_the_desk():
    desk, faces = Desk(), []
    desk.changed = faces.append
    desk.press("p")
    assert "Nobody knows yet" in desk.face.told
    desk.paused = True
    desk.press("h")
    assert desk.face == Face(Page.HOSTS)
    assert desk.turned.is_set()
    desk.press("?zZ")
    assert desk.face == Face(Page.HOSTS, helps=True)
    desk.press("?Py")  # what is typed with the question is no answer
    assert (desk.face, desk.take_wish()) == (Face(Page.HOSTS, asks=False), None)
    desk.press("Y")
    assert (desk.face, desk.take_wish()) == (Face(Page.HOSTS), False)
    assert desk.take_wish() is None
    desk.press("h")
    assert desk.face == faces[-1] == Face()


class Stubborn:
    """A crawl that cannot be paused."""

    name = "shop"

    def __init__(self, error):
        self._error = error

    async def pause(self, paused):
        raise self._error

    async def status(self, **_):
        return a_status()

    async def newest_failed(self, limit):
        return []

    async def reconnect(self):
        pass


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigurationError("of another version"), "Not paused: of another version"),
        (RedisUnavailable("gone"), "Not paused, as far as is known"),
    ],
)
async def test_pause_that_fails_is_told_and_top_goes_on(error, told):
    desk = Desk()
    desk.paused = False
    desk.press("p")
    desk.press("y")
    await top._watch(Stubborn(error), Lines(), 0, 2, desk)
    assert desk.face.told.startswith(told)


def test_svg_is_the_same_picture():
    svg = as_svg(a_view(a_status(spider="<shop>"), [a_letter(404)], (1.0, 2.0)))
    assert svg.startswith("<svg")
    text = svg.replace("&#160;", " ")
    assert "pages/s in the last minute" in text
    assert "http://site.example/404" in text
    assert "<shop>" not in text


def test_history_is_that_of_redis_clock_and_bounded():
    history = History()
    for second, pages in enumerate([100, 110, 130, 0, 5]):
        history.add(a_status(time=NOW + timedelta(seconds=2 * second), pages=pages))
    history.add(a_status(time=NOW, pages=100))  # the clock went back
    assert list(history.rates) == [5, 10, 0, 2.5]
    for second in range(1000):
        history.add(a_status(time=NOW + timedelta(seconds=second)))
    assert len(history.rates) <= 100


# Without a terminal


def plant(client, **fields):
    """A frontier called shop."""
    now = int(time.time() * 1000)
    client.hset(
        "shop:state", mapping={"active": now, "pages": 30, "format": FORMAT, **fields}
    )
    client.zadd("shop:requests", {member(b"x", i): 0 for i in range(20)})


@pytest.fixture
def run_top(redis_server, capsys):
    """``run_top(*args)`` in this process, without a terminal: exit code, output."""

    def run(*args, url=redis_server.url):
        parser = argparse.ArgumentParser()
        top.SUBCOMMAND.add_options(parser)
        opts = parser.parse_args(["shop", "--redis", url, "--interval", "0.1", *args])
        code = asyncio.run(top.SUBCOMMAND.run(Settings(), opts))
        return code, capsys.readouterr()

    return run


def test_plain_lines_are_printed_without_a_terminal(run_top, redis_server):
    with redis_server.client() as client:
        plant(client)
    code, printed = run_top("-n", "3")
    assert code == 0
    lines = printed.out.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(
            r"[0-9-]{10} [0-9:]{8}Z shop stopped: 30 pages, 0\.0 pages/s, 20 pending, 0 leased,"
            r" 0 suspect, 0 failed, 0 seeds, 0 workers, 0 silent, - left",
            line,
        )


def test_json_lines_are_printed_if_asked_for(run_top, redis_server):
    with redis_server.client() as client:
        plant(client)
    _, printed = run_top("-n", "2", "--json")
    assert [json.loads(line)["pending"] for line in printed.out.splitlines()] == [
        20
    ] * 2


def test_hosts_are_lines_without_a_terminal(run_top, redis_server):
    with redis_server.client() as client:
        plant(client)
        client.zadd(Keys.from_settings(Settings(), "shop").slots, {"0": 1})
    _, printed = run_top("-n", "2", "--hosts")
    lines = printed.out.splitlines()
    assert len(lines) == 6
    assert lines[1] == lines[4] == "  1 of 1 host, 20 pending requests"
    assert lines[2] == "  #0: pending 20, in flight 0, delay -, next now, errors 0"
    _, printed = run_top("-n", "1", "--hosts", "--json")
    told = json.loads(printed.out)
    assert told["pending"] == 20
    assert told["hosts"]["hosts"][0]["pending"] == 20


def test_picture_is_written_at_the_end(run_top, redis_server, tmp_path):
    with redis_server.client() as client:
        plant(client)
        client.xadd("shop:failed", {"payload": "http://x/", "kind": "seed"})
    path = tmp_path / "top.svg"
    _, printed = run_top("-n", "1", "--svg", str(path))
    assert len(printed.out.splitlines()) == 1
    assert "http://x/" in path.read_text()
    with pytest.raises(ConfigurationError, match="Name a file"):
        run_top("-n", "1", "--svg", str(tmp_path))


class Saboteur:
    """A screen that takes Redis away after the first look, and brings it back."""

    def __init__(self, take_away, bring_back):
        self._take_away, self._bring_back = take_away, bring_back
        self.seen = []

    def show(self, look):
        self.seen.append(look.status.pending)
        if len(self.seen) == 1:
            self._take_away()
        return len(self.seen) == 1

    def late(self, seconds):
        return True

    def fail(self, reason):
        self.seen.append(reason)
        self._bring_back()
        return True


async def watch(url, screen):
    parser = argparse.ArgumentParser()
    top.SUBCOMMAND.add_options(parser)
    opts = parser.parse_args(["shop", "--redis", url])
    async with project.opened(project.find_crawl(Settings(), opts)) as crawl:
        await top._watch(crawl, screen, 0.05, None)
    return screen.seen


class Away:
    """A crawl whose Redis does not answer."""

    def __init__(self):
        self.told = []

    async def status(self, **_):
        self.told.append("asked")
        raise RedisUnavailable("gone")

    async def reconnect(self):
        self.told.append("reconnected")


async def test_no_late_reply_is_taken_for_another():
    crawl, screen = Away(), Lines()
    await top._watch(crawl, screen, 0, 2)
    assert crawl.told == ["asked", "reconnected"] * 2


async def test_redis_may_go_and_come_back(own_redis):
    def start_again():
        own_redis.start()
        with own_redis.client() as client:
            plant(client)

    with own_redis.client() as client:
        plant(client)
    seen = await watch(own_redis.url, Saboteur(own_redis.kill, start_again))
    assert (seen[0], seen[-1]) == (20, 20)
    assert seen[1].startswith("Redis is away (")


async def test_redis_that_does_not_answer_is_away_too(own_redis, monkeypatch):
    def freeze():
        monkeypatch.setattr(top, "_TIMEOUT", 0.5)
        own_redis.freeze()

    def thaw():
        monkeypatch.undo()
        own_redis.thaw()

    with own_redis.client() as client:
        plant(client)
    seen = await watch(own_redis.url, Saboteur(freeze, thaw))
    assert seen == [20, "Redis is away (no answer for 0.5 s).", 20]


async def test_what_is_shown_is_marked_before_redis_counts_as_away(
    own_redis, monkeypatch
):
    monkeypatch.setattr(top, "_LATE", 0.1)
    with own_redis.client() as client:
        plant(client)
    screen = Saboteur(own_redis.freeze, own_redis.thaw)

    def late(seconds):
        if len(screen.seen) == 1:
            screen.fail(f"late for {seconds > 0}")
        return True

    screen.late = late
    assert await watch(own_redis.url, screen) == [20, "late for True", 20]


def test_missing_rich_is_explained(run_top, redis_server, monkeypatch, tmp_path):
    with redis_server.client() as client:
        plant(client)
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ConfigurationError, match=r"pip install .scrapy-dist\[top\]"):
        run_top("-n", "1", "--svg", str(tmp_path / "x"))
    assert run_top("-n", "1")[0] == 0  # plain lines need it not


@pytest.mark.parametrize(
    "wrong", [["--interval", "0"], ["--interval", "x"], ["-n", "0"], ["-n", "x"]]
)
def test_wrong_numbers_are_refused(run_top, wrong, capsys):
    with pytest.raises(SystemExit):
        run_top(*wrong)
    assert f"argument {wrong[0]}" in capsys.readouterr().err.replace("-n/--count", "-n")


# In a terminal


class Terminal:
    """``scrapy frontier top shop`` in a pseudo terminal of 100 columns."""

    def __init__(self, folder, url, *args):
        self._ours, self._its = pty.openpty()
        size = struct.pack("HHHH", 24, 100, 0, 0)
        fcntl.ioctl(self._its, termios.TIOCSWINSZ, size)
        self.modes_before = termios.tcgetattr(self._its)
        self.output = b""
        env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _IN_TERMINAL),
                *("frontier", "top", "shop", "--redis", url),
                *("--interval", "0.2", *args),
            ],
            cwd=folder,
            env={
                **env,
                "TERM": "xterm-256color",
                "PYTHONPATH": package_parent(),
                "COLUMNS": "80",  # which many export, and nobody keeps up to date
                "LINES": "24",
            },
            stdin=self._its,
            stdout=self._its,
            stderr=self._its,
            start_new_session=True,
        )

    @property
    def modes(self):
        return termios.tcgetattr(self._its)

    def type(self, keys):
        os.write(self._ours, keys)

    def resize(self, columns, lines):
        """As a terminal does: the kernel tells those in its foreground."""
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    def shows(self, keys, text):
        """Type *keys*, or call them; *text* comes after that."""
        seen = len(self.read())
        if callable(keys):
            keys()
        else:
            self.type(keys)
        what = f"{text!r} after {keys!r}"
        wait_until(lambda: text in self.read()[seen:], what)

    def read(self):
        while select.select([self._ours], [], [], 0)[0]:
            self.output += os.read(self._ours, 65536)
        return self.output

    def wait_for(self, text):
        wait_until(lambda: text in self.read(), f"{text!r} on the screen")

    def wait_end(self):
        wait_until(
            lambda: (self.read(), self.process.poll())[1] is not None, "top has ended"
        )
        self.read()
        return self.process.returncode

    def hang_up(self):
        for side in (self._ours, self._its):
            os.close(side)
        self._ours = self._its = None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._ours is not None:
            self.hang_up()


#: As a shell does: makes the terminal the process' own, so that Ctrl-C reaches it.
_IN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from scrapy.cmdline import execute
sys.argv[0] = "scrapy"
execute()
"""


@pytest.fixture
def terminal(tmp_path, redis_server):
    """``terminal(*args)`` opens one; the frontier is that of `plant`."""
    with redis_server.client() as client:
        plant(client)
    opened = []

    def open_terminal(*args):
        opened.append(Terminal(tmp_path, redis_server.url, *args))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def assert_restored(terminal):
    assert terminal.modes == terminal.modes_before
    left = terminal.output.rindex(FIRST_SCREEN)
    assert left > terminal.output.rindex(OTHER_SCREEN)
    assert terminal.output.rindex(CURSOR) > terminal.output.rindex(b"\x1b[?25l")
    return terminal.output[left + len(FIRST_SCREEN) :]


def test_q_ends_it_and_the_terminal_is_as_before(terminal):
    window = terminal()
    window.wait_for(b"q ends")
    assert window.output.startswith(OTHER_SCREEN)
    assert window.modes != window.modes_before
    window.type(b"x\x1a")  # other keys, and Ctrl-Z, do nothing
    seen = len(window.output)
    wait_until(lambda: b"q ends" in window.read()[seen:], "another look")
    window.type(b"q")
    assert window.wait_end() == 0
    assert assert_restored(window) == b""


def test_keys_turn_pages_and_pause_after_a_question(terminal, redis_server):
    keys = Keys.from_settings(Settings(), "shop")
    with redis_server.client() as client:
        client.zadd(keys.slots, {"0": 1})
        fields = {"payload": "http://x/\x1b[2J", "kind": "seed", "reason": "no \x1b[2J"}
        for _ in range(3):
            client.xadd(keys.failed, fields)
    window = terminal("--interval", "500")
    window.wait_for(b"q ends")
    window.shows(b"h", b"in flight")
    window.shows(b"H", b"no workers")  # once more: the overview
    window.shows(
        b"\x1b[A\x1bOP\x1b[15~f", b"newest url"
    )  # no letters in arrows, F1, F5
    assert rb"no \x1b[2J" in window.output
    window.shows(b"t", b"no tasks")
    window.shows(b"?", b"these lines, and back")
    window.shows(b"o", b"no workers")
    with redis_server.client() as client:
        window.shows(b"py", b"Pause shop? y")  # an answer comes by itself
        window.shows(b"n", b"Nothing was changed.")
        assert not client.exists(keys.control)
        window.shows(b"p", b"Pause shop? y")
        window.shows(b"y", b"shop is paused: nobody works on it")
        assert client.hget(keys.control, "paused")
        window.shows(b"p", b"Resume shop? y")
        window.shows(b"y", b"shop goes on")
        assert not client.hget(keys.control, "paused")
    window.shows(lambda: window.resize(40, 12), b"pending 20")  # beside its name
    window.type(b"q")
    assert window.wait_end() == 0
    assert assert_restored(window) == b""


def test_ctrl_c_ends_it_and_the_terminal_is_as_before(terminal):
    window = terminal()
    window.wait_for(b"q ends")
    window.type(b"\x03")
    assert window.wait_end() == 0
    assert assert_restored(window) == b""


def test_signal_ends_it_and_the_terminal_is_as_before(terminal):
    window = terminal()
    window.wait_for(b"q ends")
    window.process.send_signal(signal.SIGTERM)
    assert window.wait_end() == 0
    assert assert_restored(window) == b""


def test_error_is_told_on_the_terminal_as_it_was_before(terminal, redis_server):
    window = terminal()
    window.wait_for(b"q ends")
    with redis_server.client() as client:
        client.delete("shop:requests")
        client.set("shop:requests", "x")
    assert window.wait_end() == 2
    said = assert_restored(window).decode()
    assert said.startswith("scrapy frontier top: A key of the frontier of 'shop'")
    assert len(said.splitlines()) == 1


def test_terminal_that_is_closed_ends_it(terminal):
    window = terminal()
    window.wait_for(b"q ends")
    window.hang_up()
    assert window.process.wait(100) is not None


def test_reader_that_has_seen_enough_ends_it(tmp_path, redis_server):
    with redis_server.client() as client:
        plant(client)
    command = [sys.executable, "-m", "scrapy", "frontier", "top", "shop"]
    command += ["--redis", redis_server.url, "--interval", "0.1"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": package_parent()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert b"20 pending" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(100) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
