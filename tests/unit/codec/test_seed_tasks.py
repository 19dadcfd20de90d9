"""Seeds with an id are tasks; nothing else is one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy import Spider

from scrapy_dist.admin.seeding import SeedMaker
from scrapy_dist.codec.seed import parse_seed
from scrapy_dist.codec.seed_rules import SeedRules
from scrapy_dist.codec.seed_tasks import SeedTask, find_task, new_token
from scrapy_dist.exceptions import BadSeed

URL = "http://a.test/"
TOKEN = "0123456789abcdef"
RULES = SeedRules()
FORM = dataclasses.replace(RULES, form_fields=True)
SPIDER = Spider("s")


def find(
    seed: Any, rules: SeedRules = RULES, *, own_form: bool = False
) -> SeedTask | None:
    data = seed if isinstance(seed, bytes) else json.dumps(seed).encode()
    return find_task(data, rules, own_form=own_form)


def found(seed: Any, rules: SeedRules = RULES, **options: Any) -> SeedTask:
    task = find(seed, rules, **options)
    assert task is not None
    return task


def reason(seed: Any) -> str:
    """Why the seed is bad, for who looks for tasks and for who reads it."""
    with pytest.raises(BadSeed) as info:
        find(seed)
    with pytest.raises(BadSeed) as read:
        parse_seed(json.dumps(seed), RULES, SPIDER)
    assert str(info.value).replace("'", "") == str(read.value).replace("'", "")
    return str(info.value)


def test_a_raw_seed_with_an_id_is_a_new_task():
    seed = {"url": URL, "id": "t1", "batch": "b", "meta": {"a": 1}}
    task = found(seed)

    assert (task.id, task.batch, task.is_new) == ("t1", "b", True)
    assert len(task.token) == 16
    assert json.loads(task.data) == seed
    assert parse_seed(task.data, RULES, SPIDER).url == URL
    assert found(seed).token != task.token


def test_a_submitted_one_has_its_token():
    task = found({"url": URL, "id": "t1", "task": TOKEN})

    assert (task.token, task.batch, task.is_new) == (TOKEN, "", False)


@pytest.mark.parametrize(
    "seed",
    [
        URL.encode(),
        b'http://a.test/?q={"id":1}',
        b'{"url": "http://a.test/?id=1"}',
        {"url": URL, "meta": {"id": "t1", "task": TOKEN}},
        {"url": URL, "body": '"id"'},
        b'{"id": "t1", "url"',
        b'["id"]',
        b"",
        b'\xff{"id": "t1"}',
    ],
)
def test_what_has_no_id_of_its_own_is_no_task(seed):
    assert find(seed) is None


@pytest.mark.parametrize(
    "seed",
    [
        b'{"url": "http://a.test/", "\\u0069d": "t1"}',
        b' \n{"url": "http://a.test/", "id": "t1"} ',
        b'\xef\xbb\xbf{"id": "t1", "url": "http://a.test/"}',
        b'{"id":"\\u0074\\u0031"}',
        b'{"\\u0069\\u0064": "t1"}',
        b'{"i\\u0064": "t1"}',
    ],
)
def test_however_it_is_written(seed):
    assert found(seed).id == "t1"


@pytest.mark.parametrize(
    ("written", "id_"),
    [(b"5", "5"), (b"-7", "-7"), (b"1.50", "1.50"), (b"1e3", "1e3"), (b'"5"', "5")],
)
def test_a_number_is_the_text_that_was_written(written, id_):
    assert found(b'{"url": "http://a.test/", "id": ' + written + b"}").id == id_


@pytest.mark.parametrize("name", ["id", "batch"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "is a JSON list"),
        ({}, "is a JSON object"),
        (True, "is a JSON true or false"),
        (None, "is a JSON null"),
        ("", "is empty"),
        ("a\nb", "control characters"),
        ("a\x00", "control characters"),
        ("\x85", "control characters"),
        ("x" * 256, "256 characters"),
    ],
)
def test_a_bad_name_is_a_bad_seed(name, value, says):
    message = reason({"url": URL, "id": "t1", name: value})

    assert message.startswith(name)
    assert says in message


def test_255_characters_of_any_kind_are_a_name():
    assert found({"url": URL, "id": "ä" * 255, "batch": " "}).id == "ä" * 255


@pytest.mark.parametrize("token", ["", "x", TOKEN.upper(), TOKEN + "0", 5, None])
def test_a_token_that_is_none_is_a_bad_seed(token):
    assert "task" in reason({"url": URL, "id": "t1", "task": token})


def test_a_token_or_batch_needs_an_id():
    assert "no id" in reason({"url": URL, "task": TOKEN})
    with pytest.raises(BadSeed, match="no id"):
        parse_seed(json.dumps({"url": URL, "batch": "b"}), RULES, SPIDER)


@pytest.mark.parametrize(("rules", "own"), [(FORM, False), (RULES, True), (FORM, True)])
def test_where_keys_mean_something_else_only_a_token_makes_a_task(rules, own):
    for seed in (
        {"url": URL, "id": "t1", "batch": "b"},
        {"url": URL, "id": [1, 2]},
        {"url": URL, "id": "t1", "task": "mine"},
        {"url": URL, "task": TOKEN},
        {"url": URL, "task": 5},
    ):
        assert find(seed, rules, own_form=own) is None
    task = found({"url": URL, "id": "t1", "task": TOKEN}, rules, own_form=own)
    assert (task.id, task.token, task.is_new) == ("t1", TOKEN, False)


def test_a_form_does_not_get_what_is_a_tasks():
    seed = {"url": URL, "id": "t1", "batch": "b", "task": TOKEN, "q": 1.5}
    request = parse_seed(found(seed, FORM).data, FORM, SPIDER)

    assert request.url == f"{URL}?q=1.5"
    raw = json.dumps({"url": URL, "id": "t1"})
    assert parse_seed(raw, FORM, SPIDER).url == f"{URL}?id=t1"


def test_a_reader_of_a_projects_gets_its_own_keys():
    seed = {"shop": 1, "id": "t1", "batch": "b", "task": TOKEN}
    data = found(seed, own_form=True).data

    assert json.loads(data) == {"shop": 1, "id": "t1", "batch": "b"}


def test_what_is_too_large_is_not_looked_at():
    seed = {"url": URL, "id": "t1"}
    assert find(seed, dataclasses.replace(RULES, max_size=10)) is None


@given(st.binary(), st.booleans())
def test_garbage_is_no_task(data, own):
    for seed in (data, b'{"id":' + data, b'{"id":"t","task":' + data + b"}"):
        with contextlib.suppress(BadSeed):
            find_task(seed, RULES, own_form=own)


def test_deep_json_is_left_to_its_reader():
    assert (
        find(b'{"id": "t", "meta": ' + b"[" * 100_000 + b"]" * 100_000 + b"}") is None
    )


def test_tokens_differ():
    assert len({new_token() for _ in range(100)}) == 100


def test_raw_tasks_may_be_pushed_and_bad_ones_not():
    maker = SeedMaker(RULES)

    seed = maker.make({"url": URL, "id": 7, "batch": "b", "priority": 3})
    assert (found(seed.data).id, seed.priority) == ("7", 3)
    with pytest.raises(BadSeed, match="id is empty"):
        maker.make({"url": URL, "id": ""})


@given(
    st.dictionaries(
        st.sampled_from(["url", "id", "batch", "task", "x"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.just(TOKEN)
        | st.lists(st.text(), max_size=2),
    ),
    st.booleans(),
    st.booleans(),
)
def test_any_seed_is_a_task_or_none_or_bad(seed, form, own):
    rules = FORM if form else RULES
    with contextlib.suppress(BadSeed):
        task = find(seed, rules, own_form=own)
        if task is not None:
            assert 1 <= len(task.id) <= 255
            assert own or form or task.data == json.dumps(seed).encode()
