import os
import resource

import pytest

from worker import board


def _zones(folder, *readings):
    for number, reading in enumerate(readings):
        zone = folder / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "temp").write_text(reading)
    return folder


def test_the_hottest_zone_counts(tmp_path):
    beat = board.heartbeat(thermal=_zones(tmp_path, "41000\n", "58250\n", "-500\n"))
    assert beat.temperature_c == 58.25


@pytest.mark.parametrize("readings", [(), ("",), ("warm",), ("-274000",), ("200000", "-127000")])
def test_a_board_without_a_plausible_reading_tells_none(tmp_path, readings):
    assert not board.heartbeat(thermal=_zones(tmp_path, *readings)).HasField("temperature_c")


def test_a_zone_that_cannot_be_read_is_passed_over(tmp_path):
    zones = _zones(tmp_path, "30000")
    (zones / "thermal_zone1").mkdir()
    (zones / "thermal_zone1" / "temp").mkdir()
    assert board.heartbeat(thermal=zones).temperature_c == 30.0


def test_memory_is_that_of_now_and_not_the_most_there_ever_was(tmp_path):
    (tmp_path / "statm").write_text("5000 1234 800 1 0 900 0\n")
    assert board.heartbeat(process=tmp_path).rss_bytes == 1234 * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 0 < board.heartbeat().rss_bytes <= most + (1 << 20)


def test_without_a_process_table_the_most_there_ever_was_has_to_do(tmp_path):
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert board.heartbeat(process=tmp_path / "none").rss_bytes >= most


def test_processor_time_only_grows():
    first = board.heartbeat().cpu_s
    sum(range(200_000))
    assert board.heartbeat().cpu_s >= first > 0
