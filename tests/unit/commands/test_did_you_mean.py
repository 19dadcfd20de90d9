"""What ``scrapy frontier`` says to a command or an option that there is not."""

from __future__ import annotations

import pytest

from scrapy_dist.commands import frontier
from tests.support.commands import run_here


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("staus", "status"), ("Status", "status"), ("fialed", "failed"), ("tpo", "top")],
)
def test_a_command_is_suggested_in_one_line(typed, meant):
    code, out, err = run_here(typed, "myspider", "--json")
    assert (code, out) == (2, "")
    said = f"there is no command '{typed}'. Did you mean '{meant}'?"
    assert err == f"scrapy frontier: {said}\n"


@pytest.mark.parametrize("typed", ["zzzzzzzz", "", "x\x1b[2J\n"])
def test_a_command_like_no_other_is_one_line_too(typed):
    code, out, err = run_here(typed)
    assert (code, out) == (2, "")
    assert "scrapy frontier --help lists them." in err
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


def test_an_option_is_suggested():
    code, _, err = run_here("status", "myspider", "--jsno")
    assert code == 2
    assert "unrecognized arguments: --jsno. Did you mean '--json'?" in err
    code, _, err = run_here("top", "myspider", "--intreval=2", "--zzz")
    assert "--intreval=2 --zzz. Did you mean '--interval'?" in err
    _, _, err = run_here("top", "myspider", "more")
    assert err.strip().endswith("unrecognized arguments: more")


def test_arguments_are_those_of_the_parser():
    for command in frontier.SUBCOMMANDS:
        names = {name for each in command.options for name in each.names}
        _, shown, _ = run_here(command.name, "--help")
        assert all(name in shown for name in names if name.startswith("--"))
    top = {each.names[-1]: each for each in frontier.SUBCOMMANDS[1].options}
    assert top["spider"].more["metavar"] == "SPIDER"
    assert not top["spider"].is_option
    assert top["--count"].names == ("-n", "--count")
    assert top["--count"].takes_value
    assert not top["--json"].takes_value
