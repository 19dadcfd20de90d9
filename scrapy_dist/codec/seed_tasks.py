"""Seeds that are tasks: which ones are, and as what the spider reads them.

Most seeds are none, and cost a search of their bytes only.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_dist.codec.seed import decode, load
from scrapy_dist.codec.seed_fields import (
    TASK_FIELDS,
    NumberText,
    is_token,
    read_task_fields,
)
from scrapy_dist.exceptions import BadSeed

if TYPE_CHECKING:
    from scrapy_dist.codec.seed_rules import SeedRules


@dataclass(frozen=True, slots=True)
class SeedTask:
    """A task, and *data*: its seed as the spider is to read it.

    *is_new*: the seed came without a token, and *token* was made up here.
    """

    id: str
    token: str
    batch: str
    is_new: bool
    data: bytes


def new_token() -> str:
    """The name of one more run of a task."""
    return secrets.token_hex(8)


def find_task(data: bytes, rules: SeedRules, *, own_form: bool) -> SeedTask | None:
    """The task that the seed *data* is; None: it is none. Raises BadSeed for a bad id.

    *own_form*: the project reads seeds in a way of its own. There, and where unknown keys
    are form fields, only a token makes a task: an ``id`` may mean anything.
    """
    # Letters of the keys may be written as escapes, though hardly anybody does.
    is_escaped = b"\\u006" in data or b"\\u007" in data
    if not (is_escaped or b'"id"' in data or b'"task"' in data):
        return None
    if len(data) > rules.max_size:
        return None
    is_plain = not (own_form or rules.form_fields)
    try:
        # As text: an id that is a number is what was written.
        seed = load(decode(data, rules.encoding), numbers=NumberText)
    except BadSeed:
        return None  # whoever reads it says so
    if not is_plain and not _has_token(seed):
        return None
    fields = read_task_fields(seed)
    if "id" not in fields:
        return None
    token = fields.get("task", "")
    if not is_plain:
        data = _without_token(data, rules)
    return SeedTask(
        fields["id"], token or new_token(), fields.get("batch", ""), not token, data
    )


def _has_token(seed: dict[str, Any]) -> bool:
    token = seed.get("task")
    return "id" in seed and type(token) is str and is_token(token)


def _without_token(data: bytes, rules: SeedRules) -> bytes:
    """*data* without what a reader of the project's, or a form, does not know."""
    ours = TASK_FIELDS if rules.form_fields else ("task",)
    seed = load(decode(data, rules.encoding))
    left = {key: value for key, value in seed.items() if key not in ours}
    return json.dumps(left).encode(rules.encoding)
