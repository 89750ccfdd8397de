"""The benchmark's figures of time and bandwidth are what they say."""

import pytest

from bench.measure import bandwidth, timing
from bench.measure.bandwidth import Bandwidth, floor_ms
from bench.measure.contestant import Contestant, Work


def test_floor_is_bytes_over_bandwidth():
    # T = 15, N = 5.6 million float32: 29 reads at 20 GB/s, and one copy, which reads and writes, at 10 GB/s
    assert floor_ms(Work(29, 1), 22_400_000, 20.0, 10.0) == pytest.approx(32.48 + 4.48)


def test_bandwidth_is_that_of_the_fastest_code_by_its_median(monkeypatch):
    seconds = iter([4.0, 2.0, 9.0, 9.0, 9.0, 8.0, 9.0] * 100)  # four codes read, three copy
    monkeypatch.setattr(bandwidth, "seconds", lambda call: next(seconds))
    measured = Bandwidth(2**20)
    measured.sample()
    gigabytes = 2**20 / 1e9
    assert measured.of_the_fastest() == {"read_GBps": gigabytes / 2, "copy_GBps": gigabytes / 8}


def test_bandwidth_is_positive():
    assert all(value > 0 for value in Bandwidth(2**20).of_the_fastest().values())


def test_slow_contestants_take_part_in_fewer_rounds(monkeypatch):
    fast, slow, slowest = (Contestant(name, Work(1, 0), None, None) for name in ("fast", "slow", "slowest"))
    lasting = {"fast": 50.0, "slow": 1500.0, "slowest": 6000.0}
    monkeypatch.setattr(timing, "milliseconds", lambda contestant: lasting[contestant.name])
    times = timing.interleaved([fast, slow, slowest], on_round=lambda: None)
    assert [len(times[name]) for name in lasting] == [7, 3, 2]
