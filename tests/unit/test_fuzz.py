"""The fuzzer (tox -e fuzz) fits the code: a few of its cases find nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.fuzz import run_case


@pytest.mark.parametrize("kind", ["codec", "seeds"])
def test_a_few_cases_of_the_fuzzer_find_nothing(kind):
    outcomes = Counter(run_case(kind, number, 1) for number in range(150))
    assert outcomes["read"]
    assert outcomes["refused"]
