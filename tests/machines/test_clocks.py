"""A machine's clock over a connection that takes its time."""

from types import SimpleNamespace

import pytest

from labctl.errors import RemoteError
from labctl.machines import clocks


class Far:
    """A machine and the way to it: each command takes (there, back) seconds. It is the master's clock, too."""

    def __init__(self, behind_s, *ways):
        self.now, self.behind_s, self.ways, self.moves = 1000.0, behind_s, list(ways), 0
        self.offset = b""

    def wall(self):
        return self.now

    async def run(self, name, argv, deadline_s, check=True):
        if argv[0] == "cat":
            assert argv[1] == clocks.OFFSET
            return SimpleNamespace(stdout=self.offset)
        there, back = self.ways.pop(0) if len(self.ways) > 1 else self.ways[0]
        self.now += there
        said = f"{self.now - self.behind_s:.6f}\n"
        if argv[0] == "python3":
            assert argv[2] == clocks.SHIFT_CLOCK
            self.behind_s -= float(argv[3])
            self.moves += 1
        self.now += back
        return SimpleNamespace(stdout=said)


SLOW = [(0.2, 4.0), (3.0, 0.1)]


@pytest.mark.parametrize("behind_s", [28.0, -28.0, 3.0])
@pytest.mark.parametrize("ways", [[(0.01, 0.01)], [*SLOW, (0.1, 0.3), (5.0, 5.0)], [*SLOW, (1.0, 0.5), (5.0, 0.0)]])
async def test_a_wrong_clock_is_right_afterwards_however_slow_its_machine(behind_s, ways):
    far = Far(behind_s, *ways)
    assert f"its clock was {abs(behind_s):.0f}"[:-1] in await clocks.correct_clock(far, "minion-1", far)
    assert abs(far.behind_s) < clocks.TOLERANCE_S and far.moves == 1


@pytest.mark.parametrize("ways", [[(0.01, 0.01)], [(0.0, 9.0)], [*SLOW, (0.1, 0.1)]])
async def test_a_right_clock_is_left_alone_however_slow_its_machine(ways):
    far = Far(0.2, *ways)
    assert await clocks.correct_clock(far, "minion-1", far) == "" and far.moves == 0


@pytest.mark.parametrize("offset_s", [30.0, -3600.0])
async def test_a_clock_that_a_fault_moved_keeps_its_offset(offset_s):
    far = Far(-offset_s, (0.01, 0.01))
    far.offset = b'{"offset": %f}' % offset_s
    assert await clocks.correct_clock(far, "minion-1", far) == "" and far.moves == 0
    far.behind_s += 7.0  # it stood still meanwhile
    assert await clocks.correct_clock(far, "minion-1", far) == "its clock was 7.0 s behind, and was set"
    assert far.behind_s == pytest.approx(-offset_s, abs=0.5)


@pytest.mark.parametrize("said", [b"{}", b'{"offset": "nan"}', b'{"offset": "-inf"}'])
async def test_an_offset_that_is_no_number_is_told(said):
    far = Far(30.0, (0.01, 0.01))
    far.offset = said
    with pytest.raises(RemoteError, match="labctl-clock-offset says"):
        await clocks.correct_clock(far, "minion-1", far)


@pytest.mark.parametrize("said", ["date: not found", "nan", "inf"])
async def test_what_is_no_time_is_told(said):
    far = Far(float("nan"), (0.0, 0.0))

    async def run(*_, **__):
        return SimpleNamespace(stdout=said)

    far.run = run
    with pytest.raises(RemoteError, match=f"minion-1: its clock says '{said}'"):
        await clocks.correct_clock(far, "minion-1", far)
