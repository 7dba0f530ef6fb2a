"""What happens in a scenario, as a list of deeds that a seed makes: so a failing run can be written down, played again without some deeds, and told.

Each deed carries its own number, from which its choices are drawn when it is done. So leaving one out changes nothing in how the others choose.
"""

from __future__ import annotations

from random import Random

import msgspec

from labctl.sim.settings import ScenarioSettings

WHAT = (
    "scale", "scale", "delete-pod", "run-bare-pod", "power", "power", "silence", "cut", "partition", "heal-links", "cordon", "restart-master",
    "disk", "clock", "scale-set", "flush-rules",
)  # fmt: skip
"""The names of deeds; one that stands here twice happens twice as often. scenario.py says what each does."""


class Deed(msgspec.Struct, frozen=True):
    """Something that people or the world do to a lab, so many seconds after the deed before."""

    after_s: float
    what: str
    number: int  # its choices follow from it

    def __str__(self) -> str:
        return f"+{self.after_s:.1f}s {self.what}"


class Case(msgspec.Struct, frozen=True):
    """One run: the world's seed, its nodes, and what happens."""

    seed: int
    nodes: int
    deeds: tuple[Deed, ...]
    lab_timing: bool = False  # whether nodes have the timing of a lab, with peers


def case(seed: int, settings: ScenarioSettings) -> Case:
    """Return the run that a seed stands for."""
    rng = Random(f"deeds of {seed}")
    deeds = tuple(
        Deed(round(rng.uniform(*settings.step_s), 3), rng.choice(settings.what or WHAT), rng.getrandbits(32)) for _ in range(settings.steps)
    )
    return Case(seed, settings.nodes, deeds, settings.lab_timing)
