import os

import pytest

from labctl.agent import logs
from labctl.agent.logs import LogRequest, parse_line, read, rotate
from labctl.agent.runtime.interface import Container, State
from labctl.agent.termination_message import POD_BYTES, termination_message


def line(number, text="line", stream="stdout", tag="F"):
    return f"2026-01-02T15:04:{number:02d}.123456789+00:00 {stream} {tag} {text} {number}\n"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "0.log"
    path.write_text("".join(line(n) for n in range(10)))
    return str(path)


def texts(path, alive=lambda: False, sleep=lambda _: None, **request):
    return [piece.decode() for piece in read(path, LogRequest(**request), alive, sleep)]


def test_a_line_is_taken_apart_and_what_is_none_is_dropped():
    assert parse_line(b"T stderr F hello world\n") == logs.Line(b"T", b"hello world\n")
    assert parse_line(b"T stdout P half\n") == logs.Line(b"T", b"half")
    assert parse_line(b"T stdout F \n").text == b"\n"
    assert parse_line(b"garbage\n") is None


def test_pieces_become_one_line_again(tmp_path):
    (tmp_path / "0.log").write_text("T stdout P one \nT stdout P two \nT stdout F three\n")
    assert "".join(texts(str(tmp_path / "0.log"))) == "one two three\n"


@pytest.mark.parametrize("count", [0, 1, 3, 10, 50])
def test_tail(log, count):
    assert texts(log, tail=count) == [f"line {n}\n" for n in range(10)][10 - count if count < 10 else 0 :]


def test_tail_reads_back_over_block_borders_and_files(log, monkeypatch):
    monkeypatch.setattr(logs, "BLOCK_BYTES", 7)
    os.rename(log, log + ".1")
    with open(log, "w") as file:
        file.write(line(10) + line(11))
    assert texts(log, tail=4) == ["line 8\n", "line 9\n", "line 10\n", "line 11\n"]


def test_since_timestamps_and_limit(log):
    since = logs.parse("2026-01-02T15:04:08Z")
    assert texts(log, since_s=since) == ["line 8\n", "line 9\n"]
    assert texts(log, since_s=since, timestamps=True)[0].startswith("2026-01-02T15:04:08.123456789Z line 8")
    assert "".join(texts(log, limit_bytes=9)) == "line 0\nli"


def test_both_outputs_in_the_order_of_the_log(tmp_path):
    (tmp_path / "0.log").write_text(line(1) + line(2, stream="stderr") + line(3))
    assert texts(str(tmp_path / "0.log")) == ["line 1\n", "line 2\n", "line 3\n"]


def test_following_goes_on_across_a_rotation_until_the_container_ends(log):
    """What happens while the reader sleeps, one step for each sleep."""
    steps = iter(["append", "rotate", "end"])
    state = {"alive": True}

    def sleep(_):
        step = next(steps)
        if step == "append":
            with open(log, "a") as file:
                file.write(line(10))
        elif step == "rotate":
            with open(log, "a") as file:
                file.write(line(11))
            assert rotate(log, 1, keep=3)
            with open(log, "w") as file:
                file.write(line(12))
        else:
            with open(log, "a") as file:
                file.write(line(13))
            state["alive"] = False

    assert texts(log, alive=lambda: state["alive"], sleep=sleep, tail=1, follow=True) == [f"line {n}\n" for n in range(9, 14)]


def test_a_half_written_line_is_waited_for(log):
    with open(log, "a") as file:
        file.write("2026-01-02T15:04:11Z stdout F ha")
    state = {"alive": True}

    def sleep(_):
        with open(log, "a") as file:
            file.write("lf\n")
        state["alive"] = False

    assert texts(log, alive=lambda: state["alive"], sleep=sleep, tail=1, follow=True)[-1] == "half\n"


def test_rotation_keeps_a_bounded_number(tmp_path):
    path = tmp_path / "0.log"
    for round_ in range(6):
        path.write_text(f"round {round_}")
        assert rotate(str(path), 3, keep=3)
    assert sorted(os.listdir(tmp_path)) == ["0.log.1", "0.log.2"]
    assert (tmp_path / "0.log.1").read_text() == "round 5"
    path.write_text("")
    assert not rotate(str(path), 3, keep=3)


def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert texts(str(tmp_path / "none.log")) == []


@pytest.mark.parametrize("tail", [None, 5])
def test_a_log_that_is_a_link_or_a_pipe_is_not_read(tmp_path, tail):
    """A pod with the folder of logs as a hostPath may exchange them: what the agent shows is the machine's then."""
    (tmp_path / "secret").write_text("2026-01-02T15:04:05Z stdout F secret\n")
    (tmp_path / "0.log").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "1.log")
    (tmp_path / "2.log").write_text("")
    (tmp_path / "2.log.1").symlink_to(tmp_path / "secret")
    for number in range(3):
        with pytest.raises(OSError, match="symbolic links|not a regular file"):
            texts(str(tmp_path / f"{number}.log"), tail=tail)


def test_the_agents_own_log_keeps_its_newest_lines_and_its_writers(tmp_path):
    path = tmp_path / "agent.log"
    with open(path, "ab", buffering=0) as own, open(path, "ab", buffering=0) as respawner:
        own.write(b"".join(b"line %04d\n" % n for n in range(100)))
        assert not logs.shorten(own.fileno(), 1000)
        respawner.write(b"one more\n")
        assert logs.shorten(own.fileno(), 1000)
        respawner.write(b"and on\n")
    lines = path.read_text().splitlines()
    assert lines[0] == "line 0051" and lines[-2:] == ["one more", "and on"]
    assert path.stat().st_size <= 510


def test_what_was_not_opened_for_appending_is_left_alone(tmp_path):
    with open(tmp_path / "file", "wb", buffering=0) as file:
        file.write(b"x" * 100)
        assert not logs.shorten(file.fileno(), 10)


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize(("containers", "most"), [(1, 4096), (3, 4096), (400, POD_BYTES // 400)])
def test_the_messages_of_a_pod_share_a_bound(tmp_path, containers, most, fallback):
    (tmp_path / "message").write_text("" if fallback else "x" * 100_000)
    (tmp_path / "0.log").write_text("".join(f"T stdout P {'x' * 8000}\n" for _ in range(200)))
    paths = {"log_path": str(tmp_path / "0.log"), "message_path": str(tmp_path / "message")}
    ended = Container("id", "u1", "c", 0, "image", "image", State.EXITED, 0.0, exit_code=3, **paths)
    spec = {"terminationMessagePolicy": "FallbackToLogsOnError"} if fallback else {}
    assert len(termination_message(ended, spec, containers)) == (min(most, 2048) if fallback else most)
