"""README promises settings; defaults.py keeps them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrapy_dist import defaults

ROOT = Path(__file__).parents[2]


def settings_table() -> dict[str, str]:
    text = (ROOT / "README.md").read_text("utf-8")
    return dict(re.findall(r"^\| `([A-Z_]+)` \| `(.*?)` \|", text, re.MULTILINE))


def test_the_table_names_every_setting_and_no_other():
    constants = {name for name in vars(defaults) if name.isupper()}
    assert set(settings_table()) == constants


@pytest.mark.parametrize("name", sorted(settings_table()))
def test_the_table_gives_the_default(name):
    written = eval(settings_table()[name])
    assert written == getattr(defaults, name)


def test_the_two_commands_are_those_that_ci_and_people_run():
    text = (ROOT / "README.md").read_text("utf-8")
    assert "python example_project/run.py" in text
    assert "python -m pytest" in (ROOT / ".ci" / "run").read_text("utf-8")
