"""A trace is read to its last cell, or refused with the line that is wrong."""

import pytest

from supervisor.daemon.trace import UNKNOWN, TraceError, read_trace

HEAD = "time_s,worker,memory_bytes,vram_bytes,host_available_bytes\n"


def test_the_readings_of_each_worker_are_kept_in_their_order() -> None:
    trace = read_trace((HEAD + "0,a,10,1,90\n0,b,20,,\n2.5,a,11,,80\n").splitlines(keepends=True))
    assert list(trace.times_s) == [0.0, 2.5]
    assert list(trace.available_bytes) == [90, 80]
    assert list(trace.workers) == ["a", "b"]
    a, b = trace.workers["a"], trace.workers["b"]
    assert (list(a.times_s), list(a.memory_bytes), list(a.vram_bytes)) == ([0.0, 2.5], [10, 11], [1, UNKNOWN])
    assert (list(b.times_s), list(b.memory_bytes), list(b.vram_bytes)) == ([0.0], [20], [UNKNOWN])


def test_columns_come_in_any_order_and_others_are_passed_over() -> None:
    trace = read_trace(["host,memory_bytes,time_s,worker\n", "x, 5 ,7,a\n", "\n"])
    assert (list(trace.times_s), list(trace.workers["a"].memory_bytes)) == ([7.0], [5])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1: it must name the columns, and there is no time_s"),
        ("time_s,worker\n", "line 1: it must name the columns, and there is no memory_bytes"),
        ("time_s,worker,memory_bytes,worker\n", "line 1: the column worker is there twice"),
        (HEAD, "line 1: it ends without a reading"),
        (HEAD + "0,a,1,,\nsoon,a,1,,\n", "line 3: time_s must be a number of seconds, not 'soon'"),
        (HEAD + "nan,a,1,,\n", "line 2: time_s must be a number of seconds, not 'nan'"),
        (HEAD + "5,a,1,,\n4,a,1,,\n", "line 3: time_s goes back from 5 to 4"),
        (HEAD + "5,a,1,,\n5,a,1,,\n", "line 3: a second reading of a at 5"),
        (HEAD + "5,a,-1,,\n", "line 2: memory_bytes must be a whole number of bytes, not '-1'"),
        (HEAD + "5,a,1,2.5,\n", "line 2: vram_bytes must be a whole number of bytes, not '2.5'"),
        (HEAD + "5,a,9" + "0" * 30 + ",,\n", "line 2: memory_bytes must be a whole number of bytes, not '9"),
        (HEAD + "5,,1,,\n", "line 2: it names no worker"),
        (HEAD + "5,a\n", "line 2: it has 2 cells, and memory_bytes is the column 3"),
        (HEAD + '5,"a,1,,\n', "line 2: no CSV: unexpected end of data"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, why: str) -> None:
    with pytest.raises(TraceError) as failed:
        read_trace(text.splitlines(keepends=True))
    assert str(failed.value).startswith(why)
