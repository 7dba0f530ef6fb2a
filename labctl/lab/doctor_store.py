"""`doctor --store` checks that the lab's store still holds what was written, and says how to continue if it does not. It needs no master,
because a master
can't start on a damaged store.

There are two ways on: an older snapshot (`labctl up --from NAME`), or the undamaged rows. The person decides which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.errors import LabctlError
from labctl.lab import process, snapshots
from labctl.lab.doctor import Check
from labctl.store.repair import DamageReport, damages, examine, keep_whole_rows

if TYPE_CHECKING:
    from labctl.lab.folder import LabFolder

_SHOWN = 10
KEEP = "labctl doctor --store --keep-whole-rows"


def doctor_store(lab: LabFolder) -> list[Check]:
    """Return one result for the store, and one for each damaged thing in it. Nothing is changed."""
    _refuse_running(lab)
    if not lab.paths.store.exists():
        return [Check("store", "ok", f"there is none at {lab.paths.store} yet")]
    return _checks(lab, examine(lab.paths.store))


def keep_undamaged_rows(lab: LabFolder) -> list[Check]:
    """Make a new store from the undamaged rows. The damaged file stays beside it."""
    _refuse_running(lab)
    examined = examine(lab.paths.store)
    if not examined.damages:
        return _checks(lab, examined)
    aside = keep_whole_rows(lab.paths.store, examined)
    found = f"{examined.objects} keys were kept; a damaged object has its previous value, or is gone. The damaged file is {aside}"
    return [Check("store", "ok", found, "labctl up")]


def _checks(lab: LabFolder, examined: DamageReport) -> list[Check]:
    if not examined.damages:
        return [Check("store", "ok", f"{lab.paths.store}: {len(examined.whole)} rows, all of them as they were written")]
    checks = [Check("store", "error", damage) for damage in examined.damages[:_SHOWN]]
    hidden = len(examined.damages) - _SHOWN + examined.more
    if hidden > 0:
        checks.append(Check("store", "error", f"{hidden} more rows are damaged"))
    checks.append(Check("whole rows", "warning", f"{len(examined.whole)} rows with {examined.objects} keys can be kept", KEEP))
    if good := _last_good_snapshot(lab):
        checks.append(Check("snapshot", "warning", f"{good.name}, saved at {good.saved}, is whole", f"labctl up --from {good.name}"))
    return checks


def _last_good_snapshot(lab: LabFolder) -> snapshots.Snapshot | None:
    own = (snapshot for snapshot in reversed(snapshots.listed(lab)) if snapshot.lab == lab.record["id"])
    return next((snapshot for snapshot in own if not damages(lab.paths.snapshots / snapshot.name / "store.db")), None)


def _refuse_running(lab: LabFolder) -> None:
    if pid := process.master_pid(lab.paths):
        raise LabctlError(f"the master (process {pid}) has the store open", mend="labctl halt, then look again")
