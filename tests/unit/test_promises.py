"""Each promise of README has its tests: here they stand side by side.

Whoever changes a promise, or the name of a test, changes it here, too.
"""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.support.documents import README, ROOT

#: The beginning of a promise, and the tests that fail if it is broken.
PROMISES = {
    "No request is lost": (
        "test_nothing_is_lost_in_chaos",
        "test_nothing_is_lost_under_load",
        "test_pages_of_a_killed_worker_are_crawled_by_the_others",
    ),
    "While nothing fails, each page is fetched once": (
        "test_three_workers_fetch_each_page_once_and_end",
        "test_second_worker_joins_in_mid_chain",
    ),
    "The crawl ends by itself": (
        "test_workers_started_together_each_end_as_finished",
        "test_ctrl_c_and_start_again_crawls_the_rest",
    ),
    "Scrapy's event loop never waits": (
        "test_redis_that_hangs_does_not_stop_the_event_loop",
    ),
    "A fault costs time": ("test_pages_of_a_killed_worker_are_crawled_by_the_others",),
    "Items are stored once only": (
        "test_items_of_a_killed_worker_come_once",
        "test_pipelines_act_as_there",
    ),
    "Redis must keep its data": (
        "test_wrong_set_up_is_one_clear_error",
        "test_eviction_can_be_allowed",
    ),
    # What it does not do.
    "Cookies are not shared": (
        "test_redirects_stay_in_the_worker_that_received_them",
        "test_each_worker_logs_in_and_they_share_what_comes_of_it",
    ),
    "One crawl is on one Redis server": ("test_cluster_loses_the_master_of_the_slot",),
    "`JOBDIR` is not used": ("test_ctrl_c_and_start_again_crawls_the_rest",),
    # Moving from scrapy-redis.
    "stop and start again": (
        "test_ctrl_c_and_start_again_crawls_the_rest",
        "test_persist_keeps_what_was_seen",
    ),
    "start requests": (
        "test_workers_started_together",
        "test_equal_start_requests_are_fetched_as_often_as_one_start_yields_them",
    ),
    "end": ("test_one_worker_that_stops_takes_nothing_from_the_others",),
    "requests in Redis": (
        "test_frontier_of_scrapy_redis_is_not_unpickled",
        "test_planted_requests_are_set_aside_and_the_crawl_completes",
    ),
    "fingerprints": ("test_fingerprinter_of_the_project_is_used",),
    "equal priorities": ("test_order_is_exact_for_what_other_workers_stored",),
    "unknown keys of a JSON seed": (
        "test_json_seed_keeps_its_query_and_names_its_form_fields",
        "test_setting_restores_the_form_fields_of_scrapy_redis",
    ),
    "one bad seed": (
        "test_good_seeds_beside_bad_ones_are_crawled",
        "test_bad_seed_is_set_aside_with_a_reason",
    ),
    "own queue classes": ("test_what_cannot_act_as_there_is_refused_by_name",),
    # What is lost when.
    "Ctrl-C, `SIGTERM`": (
        "test_ctrl_c_and_start_again_crawls_the_rest",
        "test_closespider_pagecount_keeps_the_rest_for_the_next_start",
    ),
    "a worker is killed": (
        "test_pages_of_a_killed_worker_are_crawled_by_the_others",
        "test_killed_worker_is_replaced_at_once_and_a_frozen_one_is_not",
        "test_one_of_three_workers_is_cut_off_in_mid_crawl",
    ),
    "a worker is frozen": (
        "test_frozen_worker_loses_its_leases_and_comes_back",
        "test_late_results_of_a_worker_that_was_given_up_change_nothing",
    ),
    "a request kills each worker": (
        "test_page_that_kills_its_worker_takes_no_other_along",
    ),
    "a download fails for good": (
        "test_downloads_that_fail_for_good",
        "test_callback_that_raises",
    ),
    "Redis is away": (
        "test_redis_killed_and_started_again",
        "test_workers_wait_and_say_so_once_while_redis_answers_with_errors",
        "test_full_redis_still_takes_acks_and_gives_leases",
    ),
    "Redis comes back from an older state": (
        "test_redis_goes_back_to_older_data",
        "test_snapshot_seconds_old_is_restored_twice_in_one_crawl",
        "test_replica_that_lags_becomes_the_master",
    ),
    "Redis is flushed": ("test_redis_flushed_in_mid_crawl",),
    "a request in Redis cannot be read": (
        "test_single_unreadable_requests_are_set_aside",
        "test_pending_requests_of_a_renamed_callback_stay_as_they_are",
    ),
    "`start()` raises": (
        "test_start_that_breaks_off_fails_and_what_it_did_not_come_to_is_kept",
    ),
    "a machine's clock is wrong": (
        "test_clocks_wrong_by_a_day_that_jump_in_mid_crawl_change_nothing",
    ),
}

#: Said of Scrapy, of the machine, or of the reader's own programs.
NOT_OURS = (
    "**Delays are not shared by themselves.**",
    "`robots.txt` and the files",
    "It starts no processes",
)


def section(title: str) -> str:
    text = README.read_text("utf-8").partition(f"\n## {title}\n")[2]
    assert text, title
    return text.partition("\n## ")[0]


def promises() -> list[str]:
    """The items of the lists, and the first cells of the tables, that promise."""
    found = []
    for title in ("The promise, and its limits", "What it does not do"):
        found += re.findall(r"^- (.*)$", section(title), re.MULTILINE)
    for title in ("Moving from scrapy-redis", "What is lost when"):
        rows = section(title).partition("|---|")[2]
        found += re.findall(r"^\| (.*?) \|", rows, re.MULTILINE)
    return found


@cache
def names_of_tests() -> set[str]:
    """The names of all tests."""
    text = "".join(p.read_text("utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    return set(re.findall(r"\bdef (test_\w+)\(", text))


def test_each_promise_has_a_test():
    begins = (*PROMISES, *NOT_OURS)
    said = promises()
    assert len(said) > 25
    without = [text for text in said if not text.startswith(begins)]
    assert without == []
    unsaid = [b for b in begins if not any(text.startswith(b) for text in said)]
    assert unsaid == []


@pytest.mark.parametrize("promise", PROMISES)
def test_the_tests_are_there(promise):
    assert set(PROMISES[promise]) <= names_of_tests()
