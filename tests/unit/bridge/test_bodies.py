"""What messages hold: bounded, and the same when they are sent again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("pika")

from scrapy_dist.bridge import bodies
from scrapy_dist.bridge.items import consumer_of
from scrapy_dist.core.dead_letters import DeadLetter
from scrapy_dist.core.tasks import Task, TaskState

DONE = Task("t", TaskState.DONE, "0" * 16, done=3, items=150, started_ms=5, ended_ms=9)


def test_result_has_the_first_items_and_says_how_to_get_the_others():
    body = json.loads(bodies.result_body("shop", DONE, [b'{"a": 1}', b"x", b"\xff"]))
    assert body["results"] == [{"a": 1}, "x", {"base64": "/w=="}]
    assert body["results_left"] == 147
    assert "start=3" in body["more"]
    assert (body["state"], body["done"], body["failed"]) == ("done", 3, 0)
    many = json.loads(bodies.result_body("shop", DONE, [b"{}"] * 150))
    assert len(many["results"]) == bodies.MOST_ITEMS
    large = bodies.result_body("shop", DONE, [b"x" * 100_000] * 100)
    assert len(large) < bodies.MOST_BYTES + 1000


def test_states_are_told_in_order_by_the_same_ids():
    steps = [*bodies.steps_of(DONE)]
    assert steps == [TaskState.QUEUED, TaskState.RUNNING, TaskState.DONE]
    assert [*bodies.steps_of(Task("t", TaskState.QUEUED))] == steps[:1]
    told = [bodies.status_message("q", "shop", DONE, step) for step in steps]
    assert [m.id for m in told] == [f"{'0' * 16}:{s}" for s in steps]
    queued, running, done = (json.loads(message.body) for message in told)
    assert queued["started"] is running["ended"] is None
    assert done["ended"]


def test_ids_are_no_longer_than_amqp_has_them():
    task = Task("ü" * 255, TaskState.FAILED)
    found = bodies.message_id(task, "result")
    assert found.endswith(":result")
    assert len(found.encode()) <= 255


def letter(kind, payload):
    return DeadLetter("5-0", kind, 1, 2, "host:1", "bad \udcff", payload)


@pytest.mark.parametrize(
    ("kind", "payload", "body", "task"),
    [
        ("seed", b"ftp://a/", b"ftp://a/", ""),
        ("seed", b"\xff{", b"\xff{", ""),
        ("seed", b'{"url": "http://a/"}', b'{"url": "http://a/"}', ""),
        (
            "seed",
            b'{"url": "http://a/", "id": "t", "task": "0011223344556677"}',
            b'{"url": "http://a/", "id": "t"}',
            "t",
        ),
        ("request", b"?", b'{"url": ""}', ""),
    ],
)
def test_letters_can_be_published_as_tasks_again(kind, payload, body, task):
    message = bodies.letter_message("q", "shop", letter(kind, payload))
    assert message.body == body
    assert message.id == "shop:5-0"
    assert message.headers["task"] == task
    assert message.headers["reason"].encode()


def test_readers_of_any_queue_have_a_name():
    assert consumer_of("a.b-c") == "rabbitmq.a.b-c"
    names = {consumer_of(queue) for queue in ("a b", "ü", "x" * 255, "")}
    assert len(names) == 4
    assert all(len(name) < 60 for name in names)


def test_the_letter_of_a_request_names_its_task():
    told = replace(letter("request", b"?"), task="t\udcff")
    assert bodies.letter_message("q", "shop", told).headers["task"] == "t?"


def test_items_that_are_no_json_for_everybody_come_as_their_text():
    items = [b'{"a": NaN}', b'{"a": 1}']
    body = bodies.result_body("shop", DONE, items)
    assert json.loads(body, parse_constant=pytest.fail)["results"] == [
        '{"a": NaN}',
        {"a": 1},
    ]
    # In some versions of Python a few depths can be read, and not be written.
    for depth in range(980, 1000):
        item = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        assert bodies.result_body("shop", DONE, [item])
