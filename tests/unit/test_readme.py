"""README and the topics of ``scrapy frontier help`` say what is there.

All their examples are walked: commands are parsed, Python is compiled, names are looked up.
"""

from __future__ import annotations

import argparse
import configparser
import inspect
import re
import xml.etree.ElementTree as ET

import pytest
from scrapy.settings import Settings, default_settings

from scrapy_dist import Client, defaults
from scrapy_dist.codec.seed import parse_seed
from scrapy_dist.codec.seed_fields import FIELDS as SEED_FIELDS
from scrapy_dist.codec.seed_rules import SeedRules
from scrapy_dist.commands.frontier import SUBCOMMANDS, Command
from scrapy_dist.spiders import RedisSpider
from tests.support import picture, settings_table
from tests.support.documents import (
    ROOT,
    blocks,
    command_lines,
    documents,
    imported,
    prose,
    spans,
)
from tests.unit.test_architecture import FLOORS

DOCUMENTS = documents()
README = DOCUMENTS["README"]
NAMES = [command.name for command in SUBCOMMANDS]
FRONTIER_LINES = [
    (document, words[2:])
    for document, words in command_lines()
    if words[:2] == ["scrapy", "frontier"]
]


def parse(words):
    """Parse *words* as ``scrapy frontier`` does; SystemExit for a wrong one."""
    command = Command()
    command.settings = Settings(command.default_settings)
    parser = argparse.ArgumentParser(prog="scrapy frontier", conflict_handler="resolve")
    command.add_options(parser)
    opts, rest = parser.parse_known_args(words)
    command.process_options(rest, opts)
    return opts


def options():
    """Every option of every subcommand."""
    command = Command()
    command.settings = Settings(command.default_settings)
    parser = argparse.ArgumentParser(conflict_handler="resolve")
    command.add_options(parser)
    found = set(parser._option_string_actions)
    for each in SUBCOMMANDS:
        found.update(*(argument.names for argument in each.options))
    return found


# --- README as a whole -------------------------------------------------------------


def test_it_is_for_five_minutes():
    assert len(README.splitlines()) <= 400


def test_the_settings_are_those_of_defaults():
    for document in settings_table.DOCUMENTS:
        assert settings_table.written(document) == settings_table.table(document), (
            "python -m tests.support.settings_table writes it"
        )
    constants = {name for name in vars(defaults) if name.isupper()}
    text = "".join(d.read_text("utf-8") for d in settings_table.DOCUMENTS)
    rows = re.findall(r"^\| `([A-Z_]+)` \| `.+?` \| \S", text, re.MULTILINE)
    assert sorted(rows) == sorted(constants)


def test_the_picture_is_what_the_script_draws():
    assert picture.PATH.read_text("utf-8") == picture.picture(), (
        "python -m tests.support.picture draws it"
    )
    ET.fromstring(picture.picture())


def test_each_command_has_its_row():
    _, _, table = README.partition("| `scrapy frontier …` | does |")
    table, _, _ = table.partition("\n\n")
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    named = [span.split()[0] for row in rows for span in re.findall("`([^`]+)`", row)]
    assert sorted(named) == sorted(NAMES)


def test_the_map_names_each_folder():
    _, _, table = README.partition("| folder | holds |")
    named = re.findall(r"^\| `([\w/]+)/` \|", table, re.MULTILINE)
    package = ROOT / "scrapy_dist"
    folders = {
        str(path.parent.relative_to(package))
        for path in (*package.glob("*/__init__.py"), *package.glob("brokers/*/*.py"))
    }
    assert set(named) == folders - {"brokers"}
    floors = {name: n for n, floor in enumerate(FLOORS) for name in floor}
    order = [floors[name.partition("/")[0]] for name in named]
    assert order == sorted(order, reverse=True)
    for row in re.findall(r"^\| (`[\w/]+/`.*) \|$", table, re.MULTILINE):
        top, *inner = re.findall(r"`([\w/]+/|[\w/]+\.py)`", row)
        for name in inner:
            assert (package / top / name).exists(), row


def test_the_two_commands_are_those_that_ci_and_people_run():
    assert "python example_project/run.py" in README
    assert "python -m pytest" in README
    assert "python -m pytest" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_links_lead_somewhere():
    titles = re.findall(r"^#+ (.*)$", prose(README), re.MULTILINE)
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles
    }
    for link in re.findall(r"\]\(#([^)]+)\)", README):
        assert link in anchors
    own = r"https://[\w.]+/scrapy-dist/scrapy-dist/(?:blob/)?main/([^)\s]+)"
    found = re.findall(own, README)
    assert found
    for path in found:
        assert (ROOT / path).is_file()


# --- Commands ----------------------------------------------------------------------


def test_there_are_examples_to_walk():
    assert len(FRONTIER_LINES) > 35
    assert len(blocks("python")) > 12
    assert {words[0] for _, words in FRONTIER_LINES} == set(NAMES) - {"help"}


@pytest.mark.parametrize(
    ("document", "words"),
    FRONTIER_LINES,
    ids=[f"{document}-{' '.join(words)}" for document, words in FRONTIER_LINES],
)
def test_a_command_line_is_understood(document, words):
    parse(words)


@pytest.mark.parametrize("command", SUBCOMMANDS, ids=lambda command: command.name)
def test_the_example_of_help_is_understood(command):
    words = command.example.split()
    assert words[:2] == ["scrapy", "frontier"]
    parse(words[2:])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_the_text_are_understood(document):
    for span in spans(DOCUMENTS[document]):
        words = span.split()
        if words[:2] == ["scrapy", "frontier"] and "…" not in span:
            if len(words) == 3:
                assert words[2] in (*NAMES, "TOPIC"), span
            else:
                parse(words[2:])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_topics_that_are_named_are_there(document):
    text = " ".join(DOCUMENTS[document].split())
    for topic in re.findall(r"scrapy frontier help ([a-z-]+)", text):
        assert topic in DOCUMENTS, topic


@pytest.mark.parametrize("document", DOCUMENTS)
def test_options_in_the_text_are_there(document):
    others = {
        "-n 0": "pytest",
        "--kill": "run.py",
        "--rabbitmq": "run.py",
        "--minutes 5": "fuzz",
        "--pipelines": "scrapy parse",
    }
    known = options()
    for span in spans(DOCUMENTS[document]):
        if span.startswith("-") and span != "-" and span not in others:
            assert span.split()[0].partition("=")[0] in known, span


def test_seeds_in_the_examples_are_good():
    class Mine(RedisSpider):
        name = "myspider"

        def parse_api(self, response):
            pass

    seeds = [
        words[-1] for _, words in command_lines() if words[:2] == ["redis-cli", "lpush"]
    ]
    assert len(seeds) >= 3
    rules = SeedRules.from_settings(Settings())
    for seed in seeds:
        parse_seed(seed, rules, Mine())
    _, _, text = DOCUMENTS["seeds"].partition("The keys are ")
    assert sorted(re.findall("`([^`]+)`", text.partition(".")[0])) == sorted(
        SEED_FIELDS
    )


# --- Python and settings -----------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    blocks("python"),
    ids=lambda block: f"{block.document}-{block.text.split(chr(10))[0]}",
)
def test_python_compiles_and_its_imports_resolve(block):
    compile(block.text, block.document, "exec")
    for path in imported(block.text):
        module, _, name = path.rpartition(".")
        exec(f"from {module} import {name}" if module else f"import {name}", {})


def test_methods_of_the_client_are_there():
    text = DOCUMENTS["client"]
    calls = set(re.findall(r"\bclient\.(\w+)\(", "".join(b.text for b in blocks())))
    assert {"seed", "items", "status"} <= calls
    assert not [name for name in calls if not hasattr(Client, name)]
    described = {}
    for row in re.findall(r"^\| (`\w+\(.*?`) \|", text, re.MULTILINE):
        described |= re.findall(r"`(\w+)\((.*?)\)`", row)
    methods = {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    assert set(described) == methods
    [also] = re.findall(r"what the commands do: (.*?)\.", " ".join(README.split()))
    assert set(re.findall(r"`(\w+)`", also)) < methods
    for name, parameters in described.items():
        known = inspect.signature(getattr(Client, name)).parameters
        named = re.findall(r"\*?(\w+)(?:=[^,]*)?(?:, |$)", parameters)
        assert set(named) <= set(known), name


def is_setting(name):
    return (
        hasattr(defaults, name)
        or name in vars(default_settings)
        # The last one is deprecated, and only to be refused; before them the environment's.
        or name in ("AMQP_URL", "SSL_CERT_FILE")
        or name in ("SPLASH_URL", "TEST_ENVIRONMENT", "CONCURRENT_REQUESTS_PER_IP")
        or name == "DOWNLOAD_SLOTS"  # Scrapy 2.13 has no default for it
    )


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_that_are_named_are_there(document):
    known = [*vars(defaults), *vars(default_settings)]
    text = DOCUMENTS[document]
    for name, dots in re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)(_?…)?", text):
        if dots:
            assert any(setting.startswith(name) for setting in known), name
        else:
            assert is_setting(name), name


# --- Files, environments, extras ---------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_are_there(document):
    pattern = r"\b((?:tests|example_project|scrapy_dist)/[\w./-]+[\w/])"
    for path in re.findall(pattern, DOCUMENTS[document]):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_environments_of_tox_that_are_named_are_there(document):
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    known = set(tox["tox"]["env_list"].replace(",", " ").split())
    known |= {name.partition(":")[2] for name in tox.sections()}
    text = " ".join(DOCUMENTS[document].split())
    for name in re.findall(r"tox -e (\w+)", text):
        assert name in known
    if document == "README":
        _, _, contributing = README.partition("## Contributing")
        for name in known - {"", "py311", "py312"}:
            assert re.search(rf"\b{name}`", contributing), name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_extras_that_are_named_are_there(document):
    _, _, text = (
        (ROOT / "pyproject.toml")
        .read_text("utf-8")
        .partition("[project.optional-dependencies]")
    )
    extras = re.findall(r"^(\w+) = \[", text.partition("\n[")[0], re.MULTILINE)
    for name in re.findall(r'"(?:scrapy-dist|\.)\[(\w+)\]', DOCUMENTS[document]):
        assert name in extras
