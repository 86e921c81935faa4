"""When commits leave the event loop, and when they come back."""

from aob.stores.sqlite.writer import Pace


def test_fast_commits_stay_on_the_loop() -> None:
    pace = Pace(0.002)
    for _ in range(100):
        assert pace.inline(0.0)
        pace.took(0.001, inline=True)


def test_one_slow_commit_among_fast_ones_changes_nothing() -> None:
    pace = Pace(0.002)
    for n in range(100):
        assert pace.inline(0.0)
        pace.took(0.005 if n == 50 else 0.0002, inline=True)


def test_slow_commits_leave_the_loop() -> None:
    pace = Pace(0.002)
    pace.took(0.02, inline=True)
    assert pace.slow
    pace.took(0.02, inline=False)
    for _ in range(50):
        pace.took(0.02, inline=False)
    assert not pace.inline(1_000.0), "a disk that looks slow in the thread is not tried on the loop"


def test_commits_that_look_fast_enough_are_tried_on_the_loop_now_and_then_and_come_back() -> None:
    pace = Pace(0.002)
    for _ in range(20):
        pace.took(0.02, inline=True)
    for _ in range(50):
        pace.took(0.006, inline=False)
    assert pace.inline(100.0)
    pace.took(0.006, inline=True)
    assert not pace.inline(101.0)
    assert pace.inline(106.0)
    pace.took(0.0005, inline=True)
    assert not pace.slow
    assert pace.inline(106.0)


def test_a_commit_that_had_to_wait_for_another_process_in_the_thread_says_nothing_about_the_disk() -> None:
    pace = Pace(0.002)
    for _ in range(50):
        pace.took(0.05, inline=False)
    assert pace.inline(0.0)
