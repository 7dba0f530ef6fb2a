"""The story of a large lab, played small: it ends, counts what it did, and forgets old history although virtual time stands still."""

from labctl.sim import scale
from labctl.sim.settings import ScaleSettings
from labctl.store.log import LogStore


def test_every_pod_that_was_asked_for_starts_and_moves_when_nodes_die(monkeypatch):
    compacted = []
    compact = LogStore.compact

    async def noted(self, before):
        compacted.append(before)
        await compact(self, before)

    monkeypatch.setattr(LogStore, "compact", noted)
    monkeypatch.setattr(LogStore, "compaction_target", property(lambda self: self.revision - 10))
    phases = scale.measure(1, ScaleSettings(nodes=6, pods=70, replicas=30))
    assert [phase.name for phase in phases] == ["6 nodes register", "70 pods start", "1 nodes die at once"]
    assert phases[1].writes >= 3 * 70 and phases[1].plans and phases[2].virtual_s > 0
    assert compacted == sorted(compacted) and len(compacted) >= 1
