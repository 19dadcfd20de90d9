"""``scrapy frontier completion``: real shells complete, and evaluate nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from scrapy.settings import Settings

from scrapy_dist.brokers.redis.keys import Keys
from tests.support.commands import run_here
from tests.support.project import package_parent
from tests.support.redis_state import plant_task
from tests.support.shell import Shell

SHELLS = ("bash", "zsh", "fish")

#: What completes a line to what. A text that begins with + is added to the line at once.
LINES = {
    "scrapy fro": "+ntier",
    "scrapy frontier stat": "+us",
    "scrapy frontier re": "recrawl resume retry",
    "scrapy frontier status --js": "+on",
    "scrapy frontier hosts shop --sort ": "delay errors pending",
    "scrapy frontier hosts --sort=er": "+rors",
    "scrapy frontier help dead": "+-letters",
    "scrapy frontier completion f": "+ish",
    "scrapy frontier import shop --merge lines-": "+of-it.jsonl",
    "scrapy frontier status shop": r"shop shopping\ list",
    "scrapy frontier status ca": "+fé",
    "scrapy frontier status -L INFO --redis redis://x ca": "+fé",
    "scrapy frontier status --redis=redis://x ca": "+fé",
    "scrapy frontier status shop --job ": "+nightly",
    "scrapy frontier status --job=we": "+ekly",
    "scrapy frontier task shop t-": "t-1 t-2",
    "scrapy frontier cancel shop t-1 t-": "t-1 t-2",
    "scrapy frontier workers shop --stop host:": "host:7 host:8",
    "scrapy frontier status x:": "x:other x:yes",
    "scrapy frontier status x:o": "+ther",
    "scrapy crawl shop": r"shop shopping\ list",
}

#: What a hostile Redis may call its crawls. `evil` must not be there afterwards.
HOSTILE = r"""
spider $(touch evil)
spider `touch evil`
spider a;touch evil
spider b|touch evil
spider c"$(touch evil)
spider d'$(touch evil)'
spider *
spider ~root
spider \\$(touch evil)
spider ${X:=$(touch evil)}
spider <(touch evil)
spider !!
job $(touch_evil) shop
other $(touch evil)
a project's own print
"""

NAMES = """
spider shop
spider shopping list
spider café
spider x:yes
spider x:other
job nightly shop
job weekly shopping list
task t-1 shop
task t-2 shop
task t-3 shopping list
worker host:7 shop
worker host:8 shop
worker host:9 shopping list
"""


@pytest.fixture(autouse=True)
def _shell_is_there(request):
    shell = getattr(request.node, "callspec", None)
    name = shell and shell.params.get("shell")
    if name and shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.fixture
def prepared(tmp_path):
    """``prepared(shell, names)``: its script; folder has a scrapy that knows *names*."""

    def prepare(shell, names):
        code, script, err = run_here("completion", shell)
        assert (code, err) == (0, "")
        path = tmp_path / f"completion.{shell}"
        path.write_text(script)
        subprocess.run([shell, "-n", path], check=True)
        commands = tmp_path / "bin"
        commands.mkdir()
        (tmp_path / "names").write_text(names)
        asked = f'echo "$*" >> {tmp_path}/asked; cat {tmp_path}/names'
        (commands / "scrapy").write_text(f"#!/bin/sh\n{asked}\n")
        (commands / "scrapy").chmod(0o755)
        (tmp_path / "lines-of-it.jsonl").write_text("")
        return path, commands

    return prepare


@pytest.fixture
def shell_of(tmp_path):
    """``shell_of(name, script, commands)``: a `Shell`, closed at the end."""
    opened = []

    def open_shell(*args):
        name, script, commands = args
        opened.append(Shell(name, tmp_path, script, commands))
        return opened[-1]

    yield open_shell
    for each in opened:
        each.close()


def fish(tmp_path, script, commands, line):
    """The candidates that fish has for *line*."""
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {script}; complete -C $argv[1]", line],
        cwd=tmp_path,
        env={
            "PATH": f"{commands}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert done.stderr == ""
    return [each.partition("\t")[0] for each in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_what_is_typed(shell, prepared, shell_of, tmp_path):
    typed = shell_of(shell, *prepared(shell, NAMES))
    for line, wanted in LINES.items():
        if wanted.startswith("+"):
            typed.complete(line, wanted[1:])
            continue
        names = wanted.split()
        colon = line.rpartition(" ")[2].rpartition(":")[0]
        if shell == "bash" and colon:  # readline shows what comes behind it
            names = [name.removeprefix(f"{colon}:") for name in names]
        shown = typed.complete(line, names[-1])
        assert all(name in shown for name in names), line
    asked = (tmp_path / "asked").read_text().splitlines()
    # Once a minute for each Redis that was named, not for each TAB.
    plain = "frontier completion --names"
    assert {*asked} == {plain, f"{plain} --redis redis://x"}
    assert len(asked) < sum("stat" in line or "crawl" in line for line in LINES)


@pytest.mark.parametrize("shell", ["fish"])
def test_fish_completes_what_is_typed(shell, prepared, tmp_path):
    script, commands = prepared(shell, NAMES)
    for line, wanted in LINES.items():
        found = fish(tmp_path, script, commands, line)
        if wanted.startswith("+"):
            word = line.rpartition(" ")[2] + wanted[1:]
            assert word in found, line
        else:
            names = wanted.replace("\\ ", "\0").split()
            assert [name.replace("\0", " ") for name in names] == found, line
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked.count("frontier completion --names --redis redis://x") == 2


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_files_however_they_are_typed(
    shell, prepared, shell_of, tmp_path
):
    typed = shell_of(shell, *prepared(shell, NAMES))
    (tmp_path / "my file.jsonl").touch()
    for before in ("items shop -o ", "seed shop --file=", "export shop "):
        for begun in ("my", "my\\ ", '"my ', "'my ", "~/my", "~/my\\ "):
            typed.complete(f"scrapy frontier {before}{begun}", "file.jsonl")


@pytest.mark.parametrize("shell", ["fish"])
@pytest.mark.parametrize(
    "typed", ["my\\ f", '"my f', "~/my", "~/my\\ f", "$HOME/my", "it\\'"]
)
@pytest.mark.parametrize(
    "before", ["items shop -o ", "seed shop --file=", "export shop "]
)
def test_fish_completes_files_however_they_are_typed(
    shell, typed, before, prepared, tmp_path
):
    script, commands = prepared(shell, NAMES)
    for name in ("my file.jsonl", "it's.jsonl"):
        (tmp_path / name).touch()
    [found] = fish(tmp_path, script, commands, f"scrapy frontier {before}{typed}")
    name = "it's.jsonl" if typed.startswith("it") else "my file.jsonl"
    folder = typed.partition("/")[0] + "/" if "/" in typed else ""
    assert found == f"{before.rpartition(' ')[2]}{folder}{name}"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_hostile_names_are_quoted_and_never_evaluated(
    shell, prepared, shell_of, tmp_path
):
    typed = shell_of(shell, *prepared(shell, HOSTILE))
    shown = typed.complete("scrapy frontier status ", "touch")
    assert "project's own" not in shown
    line = typed.complete("scrapy frontier status a", "touch")
    assert r"\;touch\ evil" in line
    # The line is run: the name is one word of it.
    typed.run("set --; unalias -a; scrapy frontier status a\t")
    typed.run("scrapy frontier status b\t")
    typed.complete("scrapy frontier status shop --job ", "touch_evil")
    assert not (tmp_path / "evil").exists()
    assert "frontier status a;touch evil" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("shell", ["fish"])
def test_hostile_names_are_data_for_fish(shell, prepared, tmp_path):
    script, commands = prepared(shell, HOSTILE)
    found = fish(tmp_path, script, commands, "scrapy frontier status ")
    told = [line.partition(" ")[2] for line in HOSTILE.splitlines()]
    assert {*found} == set(told[1:13])
    assert not (tmp_path / "evil").exists()


# The names


@pytest.fixture
def shop(tmp_path):
    """A project with two spiders; ``shop(**environ)`` asks it for the names."""
    (tmp_path / "scrapy.cfg").write_text("[settings]\ndefault = shop.settings\n")
    package = tmp_path / "shop"
    package.mkdir()
    (package / "settings.py").write_text('SPIDER_MODULES = ["shop.spiders"]\n')
    (package / "spiders.py").write_text(
        "import scrapy\n"
        'class Books(scrapy.Spider):\n    name = "books"\n'
        'class Odd(scrapy.Spider):\n    name = "od\\x1bd"\n'
        'class Option(scrapy.Spider):\n    name = "--yes"\n'
    )
    (package / "__init__.py").write_text("")

    def ask(**environ):
        env = {k: v for k, v in os.environ.items() if not k.startswith("SCRAPY")}
        done = subprocess.run(
            [sys.executable, "-m", "scrapy", "frontier", "completion", "--names"],
            cwd=tmp_path,
            env={**env, "PYTHONPATH": package_parent(), **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0
        return done.stdout.splitlines()

    return ask


def test_names_are_those_of_the_project_and_of_redis(shop, redis_server):
    with redis_server.client() as client:
        for name, job in (("papers", ""), ("books", "nightly"), ("e\x1bvil", "")):
            settings = Settings({"FRONTIER_JOB": job})
            client.hset(Keys.from_settings(settings, name).state, "active", 1)
        papers = Keys.from_settings(Settings(), "papers")
        client.zadd(papers.workers, {"7": 2**52})
        client.hset(papers.state, "worker:7", "host:7")
        for n in range(60):
            plant_task(client, "papers", f"t-{n}", f"{n:016x}")
        plant_task(client, "papers", "with space", "f" * 16)
        ended = {f"{n:016x}": n + 1 for n in range(60)} | {"f" * 16: 100}
        client.zadd(papers.tasks_ended, ended)
    told = shop(REDIS_URL=redis_server.url)
    assert told[:3] == ["spider books", "spider papers", "job nightly books"]
    tasks = {f"task t-{n} papers" for n in range(11, 60)}
    assert set(told[3:]) == {*tasks, "worker host:7 papers"}


def test_redis_that_is_away_or_silent_leaves_the_spiders(shop, own_redis):
    own_redis.freeze()
    try:
        assert shop(REDIS_URL=own_redis.url) == ["spider books"]
    finally:
        own_redis.thaw()
    # Nobody says where Redis is: no embedded one is started for a TAB.
    assert shop() == ["spider books"]


def test_without_a_shell_it_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert run_here("completion")[1].startswith("#compdef scrapy")
    monkeypatch.setenv("SHELL", "/bin/dash")
    code, out, err = run_here("completion")
    assert (code, out) == (2, "")
    assert "Which shell?" in err
    assert run_here("completion", "tcsh")[0] == 2
