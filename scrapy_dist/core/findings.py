"""What a check of a frontier finds, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Kind(NamedTuple):
    """What is wrong, of one and of many, and how it is mended."""

    one: str
    many: str
    remedy: str


#: What can be wrong, by the name that --json uses.
KINDS = {
    "wrong_type": Kind(
        "key of a wrong type",
        "keys of a wrong type",
        "not to be mended here: whose is it?",
    ),
    "unreadable_member": Kind(
        "entry that cannot be read",
        "entries that cannot be read",
        "to be set aside in the dead letters",
    ),
    "unreadable_payload": Kind(
        "request that cannot be decoded",
        "requests that cannot be decoded",
        "to be set aside in the dead letters",
    ),
    "payload_without_lease": Kind(
        "lost request, which no worker holds or will be given",
        "lost requests, which no worker holds or will be given",
        "to be made pending again",
    ),
    "lease_without_payload": Kind(
        "lease without its request",
        "leases without their requests",
        "the work is done: to be removed",
    ),
    "lease_of_unknown_worker": Kind(
        "request held by an unknown worker",
        "requests held by unknown workers",
        "to be handed out again, as if the worker had died",
    ),
    "in_two_places": Kind(
        "request in two places", "requests in two places", "the copy is to be removed"
    ),
    "order_behind": Kind(
        "order counter behind the ids in use",
        "order counters behind the ids in use",
        "to be raised",
    ),
    "order_id_twice": Kind(
        "order id with two requests",
        "order ids with two requests",
        "one of the requests is to get a new id",
    ),
    "slot_without_turn": Kind(
        "slot whose requests nobody would be given while others have work",
        "slots whose requests nobody would be given while others have work",
        "to be given a turn",
    ),
    "slot_of_unknown_worker": Kind(
        "slot that an unknown worker has",
        "slots that unknown workers have",
        "to be free for others, as if the worker had died",
    ),
    "wrong_task_count": Kind(
        "task that has more or less to do than it counts",
        "tasks that have more or less to do than they count",
        "to be counted again",
    ),
    "unknown_worker": Kind(
        "worker of which only traces are left",
        "workers of which only traces are left",
        "to be removed",
    ),
}
#: Examples of one kind that a report holds at the most.
EXAMPLES = 3

#: Kinds of what cannot be read.
UNREADABLE = ("unreadable_member", "unreadable_payload")


@dataclass
class Finding:
    """One kind of damage: how often, how often mended, and a few *examples*."""

    kind: str
    count: int = 0
    mended: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        return self.count - self.mended

    def add(self, example: str, *, mended: bool) -> None:
        self.count += 1
        self.mended += mended
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


@dataclass(frozen=True)
class Counts:
    """How large the frontier is after the check.

    *alive* and *silent* are workers.
    """

    pending: int
    suspect: int
    leased: int
    failed: int
    seen: int
    alive: int
    silent: int


@dataclass
class Report:
    """*findings* by kind, in the order of KINDS; *notes* are sentences for people.

    *code_is_wrong*: most requests cannot be read for one and the same reason; they are
    sound, and a repair leaves them where they are.
    *counts* is None where a key of a wrong type stands in the way. *exists* is false when
    Redis holds no key of this frontier, dead letters, stats and items aside.
    """

    findings: dict[str, Finding]
    counts: Counts | None = None
    notes: list[str] = field(default_factory=list)
    exists: bool = True
    code_is_wrong: bool = False

    def note(self, text: str) -> None:
        """Add *text* to the notes, once."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def can_be_mended(self) -> bool:
        """Whether a repair would mend anything that is left."""
        stays = {"wrong_type"}
        if self.code_is_wrong:
            stays |= {*UNREADABLE}
        return any(f.left for kind, f in self.findings.items() if kind not in stays)

    @property
    def ok(self) -> bool:
        """Whether all is well now."""
        return not any(finding.left for finding in self.findings.values())
