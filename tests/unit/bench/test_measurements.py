"""Each measurement runs, at a small scale, and says what it measured. How fast it was is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import ALL, row
from bench.measure import Figure, percentile

ROOT = Path(__file__).resolve().parents[3]

METRICS = {
    "steps": {"steps_per_s", "bytes_per_step"},
    "starts": {"starts_per_s", "start_many_per_s"},
    "step_latency": {"step_latency_p50", "step_latency_p99"},
    "start_to_result": {"start_to_result_p50", "start_to_result_p99"},
    "fan_out": {"fan_out"},
    "signals": {"signal_roundtrip_p50"},
    "recovery": {"recovery", "recovery_ready"},
    "long_history": {
        "long_history_first_500", "long_history_last_500", "long_history_replay", "long_history_restart",
    },
    "replay": {"replay_from_store", "replay_kernel"},
    "checkpoint_loop": {"loop_passes_per_s", "loop_memory", "loop_memory_growth", "loop_recovery", "loop_store"},
}  # fmt: skip
SCALE = {"long_history": "0.02", "checkpoint_loop": "0.001"}


@pytest.mark.parametrize("name", METRICS)
def test_a_measurement_says_what_it_measured(name: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.jsonl"
    command = [sys.executable, "-m", "bench", name, "--rounds", "1", "--scale", SCALE.get(name, "0.01")]
    done = subprocess.run([*command, "--json", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in file.read_text().splitlines()]
    assert {figure["metric"] for figure in figures} == METRICS[name]
    assert all(figure["metric"] in done.stdout for figure in figures)


def test_a_measurement_that_fails_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "steps", "--rounds", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "StatisticsError" in done.stderr


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "speed"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "speed" in done.stderr
    assert all(name in done.stderr.splitlines()[-1] for name in ALL)


def test_a_percentile_is_a_value_that_so_many_do_not_exceed() -> None:
    values = list(range(1, 101))
    assert percentile(values, 50) == 51
    assert percentile(values, 99) == 100
    assert percentile([7], 99) == 7


def test_a_row_has_the_ratio_where_there_is_a_floor() -> None:
    assert row(Figure(metric="m", unit="1/s", ours=50_000.0, floor=100_000.0, ratio=0.5, cpu_ratio=2.0)).split() == [
        "m", "50,000", "100,000", "1/s", "0.50", "2.00",
    ]  # fmt: skip
    assert row(Figure(metric="m", unit="ms", ours=0.12, note="alone")).split() == ["m", "0.120", "ms", "alone"]
