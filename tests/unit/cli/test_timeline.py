"""Bars from events, and their drawing."""

from datetime import UTC, datetime, timedelta
from typing import Any

from aob.cli.timeline import Scale, bars_of, draw, kept
from aob.client.views import Event

BEGIN = datetime(2030, 1, 1, 12, tzinfo=UTC)
MS = 1_000


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


class Story:
    """Events with their numbers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def tell(self, seconds: float, kind: str, step: str | None = None, **data: Any) -> "Story":
        self.events.append(Event(len(self.events) + 1, at(seconds), kind, step, data))
        return self

    def done(self, seconds: float, step: str, took_ms: int, **data: Any) -> "Story":
        return self.tell(seconds, "step_completed", step, took=took_ms * MS, attempts=1, result=None, **data)


def test_a_step_began_when_it_ended_less_what_it_took() -> None:
    story = Story().tell(0, "run_started").done(2, "a#1", 500).done(2.5, "b#1", 2_400)
    bars = bars_of(story.events, at(9))
    assert [(bar.step, bar.start, bar.end, bar.status) for bar in bars] == [
        ("b#1", at(0.1), at(2.5), "done"), ("a#1", at(1.5), at(2), "done")
    ]  # fmt: skip


def test_attempts_and_failures_are_marked() -> None:
    story = Story().tell(0, "run_started")
    failure = {"type": "E", "message": ""}
    story.tell(1, "attempt_failed", "a#1", attempt=1, failure=failure, first_start=round(at(0.5).timestamp() * 1e6))
    story.tell(4, "step_failed", "a#1", took=3_500 * MS, attempts=2, failure=failure)
    story.tell(4, "run_failed", "a#1", failure=failure)
    (bar,) = bars_of(story.events, at(9))
    assert (bar.start, bar.end, bar.status, bar.attempts, bar.failed) == (at(0.5), at(4), "failed", 2, [at(1)])
    assert "×" in draw([bar], 80)[1].plain


def test_open_steps_last_until_now_and_those_of_an_ended_run_until_its_end() -> None:
    story = Story().tell(0, "run_started").tell(1, "step_scheduled", "approval#1", type="ticket")
    (bar,) = bars_of(story.events, at(7))
    assert (bar.type, bar.open, bar.end) == ("approval", True, at(7))
    story.tell(5, "run_cancelled", reason="")
    (bar,) = bars_of(story.events, at(7))
    assert bar.end == at(5)


def test_what_a_gap_hides_is_not_drawn() -> None:
    story = Story().tell(0, "run_started").tell(5, "gap", **{"from": 2, "to": 2}).done(6, "b#1", 1_000)
    assert [(bar.step, bar.start) for bar in bars_of(story.events, at(9))] == [("b#1", at(5))]
    story.tell(7, "run_reopened", keep=2)
    assert [event.kind for event in kept(story.events)] == ["run_started", "gap", "run_reopened"]


def test_a_timer_waited_since_the_event_before_it() -> None:
    story = (
        Story()
        .tell(0, "run_started")
        .done(1, "a#1", 100)
        .tell(2, "emitted", name="x")
        .tell(61, "timer_fired", "sleep#1")
    )
    bar = bars_of(story.events, at(70))[1]
    assert (bar.start, bar.end, bar.waits) == (at(1), at(61), True)


def test_what_a_retry_set_aside_is_not_drawn() -> None:
    story = Story().tell(0, "run_started").done(1, "a#1", 100)
    story.tell(2, "step_failed", "b#1", took=MS, attempts=1).tell(2, "run_failed", "b#1")
    story.tell(60, "run_reopened", keep=2).done(61, "b#1", 200).tell(61, "run_completed")
    bars = {bar.step: bar for bar in bars_of(story.events, at(70))}
    assert (bars["b#1"].start, bars["b#1"].status) == (at(60.8), "done")


def test_a_month_of_sleep_leaves_room_for_milliseconds_of_work() -> None:
    month = 30 * 86_400
    story = Story().tell(0, "run_started").done(0.01, "a#1", 10).tell(month, "timer_fired", "sleep#1")
    story.done(month + 0.02, "b#1", 20)
    bars = bars_of(story.events, at(month + 1))
    ruler, a, sleep, b = (line.plain for line in draw(bars, 100))
    assert "≈30 d" in ruler
    assert 2 * a.count("█") - 3 <= b.count("█") <= 2 * a.count("█") + 3
    assert a.count("█") + b.count("█") > sleep.count("░") > 5
    # the bars follow on each other without overlap
    assert a.rindex("█") < sleep.index("░") and sleep.rindex("░") < b.index("█")


def test_every_line_fits_the_width_and_every_step_is_seen() -> None:
    story = Story().tell(0, "run_started")
    for n in range(1, 60):
        story.done(n, f"a_step_with_quite_a_long_name_that_goes_on#{n}", n)
    for width in (40, 80, 200):
        lines = draw(bars_of(story.events, at(60)), width)
        assert len(lines) == 60
        assert all("█" in line.plain for line in lines[1:])
        assert max(len(line.plain.rstrip()) for line in lines) <= max(width, 36 + 2 + 20 + 14)


def test_a_scale_without_work_or_length_is_still_one() -> None:
    story = Story().tell(0, "run_started").tell(0, "signal_received", name="go", payload=1, update=None)
    bars = bars_of(story.events, at(1))
    assert Scale(bars, 20).column(at(0)) in range(21)
    assert "◆" in draw(bars, 80)[1].plain
    only_waiting = Story().tell(0, "run_started").tell(50, "timer_fired", "sleep#1")
    assert "░" in draw(bars_of(only_waiting.events, at(51)), 80)[1].plain


def test_no_events_no_bars() -> None:
    assert bars_of([], at(0)) == []
