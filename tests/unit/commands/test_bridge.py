"""``scrapy frontier bridge``: what cannot be is said before anything is reached."""

from __future__ import annotations

import sys

import pytest

from tests.support.commands import run_here

URL = (
    "--redis",
    "redis://127.0.0.1:1/0",
    "--amqp",
    "amqp://guest:Secret7@127.0.0.1:1/",
)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("AMQP_URL", raising=False)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([*URL], "--tasks QUEUE, --items QUEUE or --failed"),
        ([*URL, "--items", "a", "--results", "b"], "--results is about tasks"),
        ([*URL, "--items", "a", "--status", "b"], "--status is about tasks"),
        ([*URL, "--failed", "a", "--ack", "stored"], "--ack is about tasks"),
        ([*URL, "--tasks", "a", "--items", "a"], "named twice"),
        (["--tasks", "a"], "AMQP_URL in the environment"),
        (["--tasks", "a", "--amqp", "http://me:Secret7@a/"], "no address of RabbitMQ"),
        (["--tasks", "a", "--prefetch", "0", *URL], "from 1 to 65535"),
    ],
)
def test_options_that_do_not_go_together(args, said):
    pytest.importorskip("pika")
    code, out, err = run_here("bridge", "shop", *args)
    assert (code, out) == (2, "")
    assert said in err
    assert "Secret7" not in err
    assert "Traceback" not in err


def test_without_pika_it_says_what_to_install(monkeypatch):
    for name in [*sys.modules]:
        if name.startswith(("pika", "scrapy_dist.bridge")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pika", None)
    code, _, err = run_here("bridge", "shop", *URL, "--tasks", "a")
    assert code == 2
    assert 'pip install "scrapy-dist[amqp]"' in err
