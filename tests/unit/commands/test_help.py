"""``scrapy frontier help``: topics as plain text, on any terminal, without any Redis."""

from __future__ import annotations

import re

import pytest

from scrapy_dist.commands import frontier
from scrapy_dist.commands.help import topics
from scrapy_dist.commands.terminal.markdown import render
from tests.support.commands import run_here

TOPICS = topics()


def rendered(text, width=40):
    return "\n".join(render(text, width)).rstrip("\n")


def test_without_a_topic_all_are_listed_with_their_titles():
    code, out, err = run_here("help")
    assert (code, err) == (0, "")
    listed = re.findall(r"^  ([a-z-]+)  +\S", out, re.MULTILINE)
    assert listed == sorted(listed) == list(TOPICS)
    assert len(listed) >= 15


@pytest.mark.parametrize("columns", ["60", "80", "300"])
@pytest.mark.parametrize("topic", TOPICS)
def test_prose_fits_the_terminal(topic, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = run_here("help", topic)
    assert (code, err) == (0, "")
    for line in out.splitlines():
        is_code = line.startswith("    ") or "`" in line
        assert is_code or len(line) <= min(int(columns), 100), line


@pytest.mark.parametrize("topic", TOPICS)
def test_no_mark_of_markdown_is_left(topic):
    _, out, _ = run_here("help", topic)
    assert not re.search(r"\*\*|```|^#|^\||\B\*\w[\w ]*\*", out, re.MULTILINE)
    text = TOPICS[topic].read_text("utf-8")
    assert not re.search(r"\]\(|<[a-z/]+>", text), "links and HTML are not rendered"


@pytest.mark.parametrize("topic", TOPICS)
def test_code_of_a_topic_is_fenced(topic):
    """Code that is indented only would be wrapped like prose."""
    prose = re.sub(r"(?ms)^```.*?^```$", "", TOPICS[topic].read_text("utf-8"))
    assert not re.search(r"(?m)^ {4}", prose)


@pytest.mark.parametrize("command", frontier.SUBCOMMANDS, ids=lambda c: c.name)
def test_a_command_names_its_topic_and_is_a_name_of_it(command):
    if command.topic is None:
        assert command.name == "help"
        return
    _, shown, _ = run_here(command.name, "--help")
    assert f"scrapy frontier help {command.topic}" in shown
    if command.name not in TOPICS:
        assert run_here("help", command.name) == run_here("help", command.topic)


@pytest.mark.parametrize(
    ("wrong", "right"), [("seed s", "seeds"), ("prometeus", "prometheus")]
)
def test_an_unknown_topic_is_one_error_with_the_nearest(wrong, right):
    code, out, err = run_here("help", wrong)
    assert (code, out) == (2, "")
    assert f"Did you mean '{right}'?" in err
    assert err.count("\n") == 1


def test_headings_paragraphs_and_lists():
    text = "# One\n\na **b** c\nd\n\n## Two\n\n- x\n  y\n- z\n1. w\n"
    assert rendered(text) == "One\n===\n\na b c d\n\nTwo\n---\n\n- x y\n- z\n1. w"


def test_long_lines_are_wrapped_and_hang():
    assert rendered(f"- {'word ' * 5}", 16) == "- word word word\n  word word"


def test_code_is_indented_and_never_wrapped():
    text = "```sh\nscrapy frontier status\n\n# a comment\n```\n"
    assert rendered(text, 10) == "    scrapy frontier status\n\n    # a comment"
    assert rendered("see `scrapy frontier status` there", 16) == (
        "see\n`scrapy frontier status`\nthere"
    )


def test_a_table_that_fits_has_columns():
    text = "| a | b |\n|---|---|\n| one | two words |\n| three | |\n"
    assert rendered(text) == ("a      b\n-      -\none    two words\nthree")


def test_the_last_column_is_wrapped():
    text = f"| a | b |\n|---|---|\n| one | {'word ' * 9}|\n"
    assert rendered(text, 40).splitlines()[2:] == [
        "one  word word word word word word word",
        "     word word",
    ]


def test_a_table_that_does_not_fit_has_a_paragraph_for_each_row():
    text = "| a | b | c |\n|---|---|---|\n| one two three | four five | six |\n"
    assert rendered(text, 20) == "one two three\n    b: four five\n    c: six"


def test_a_bar_in_a_cell():
    assert r"x|y" in rendered("| a |\n|---|\n| `x\\|y` |\n")
