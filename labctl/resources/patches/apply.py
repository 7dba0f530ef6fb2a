"""Server-side apply: a manager sends the fields that it wants. Fields that it sent before and omits now are removed; fields of other managers are conflicts.

    config ─► merge into the live object ─► prune what this manager dropped and nobody owns ─► conflicts? ─► managedFields

Called for `application/apply-patch+yaml`, before defaults. Applying the same configuration twice changes nothing, times included.
Words of conflicts and of configurations that do not fit the schema are the real server's; where it answers 500 to the latter, labctl answers 400.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec

from labctl.errors import ApiError
from labctl.resources import failures
from labctl.resources.encoding import NOT_JSON
from labctl.resources.kind import Kind, Object
from labctl.resources.patches import fieldset, managed
from labctl.resources.patches.fieldset import NO_FIELDS, Fields, Path
from labctl.resources.patches.managed import APPLY, UPDATE, Manager, Managers, Ownership
from labctl.resources.schema.definitions import Schema, Type
from labctl.resources.schema.golang import value_name
from labctl.resources.schema.walk import check

BEFORE_FIRST_APPLY = "before-first-apply"
KUBECTL = "kubectl"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_MOST_ANNOTATION_BYTES = 256 * 1024
_NEVER_GONE: Fields = frozenset({("f:metadata",)})


def apply(
    schema: Schema, kind: Kind, live: Object | None, config: Object, *, manager: str, now: str, force: bool = False, subresource: str = ""
) -> Object:
    """Returns the new object, with its managedFields. `live` (None if there is no object yet) is not changed, `config` may be.

    ApiError 409 Conflict names the managers that own what would change; 422 without a manager; 400 for what does not fit the schema.
    """
    if not manager:
        raise _no_manager()
    type_ = schema.type_of(kind.group, kind.version, kind.kind)
    _check_config(type_, kind, config)
    if live is None and (uid := config.get("metadata", {}).get("uid")):
        words = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise failures.conflict(kind, config["metadata"].get("name", ""), words)
    me = Manager(manager, APPLY, kind.api_version, subresource)
    managers = _managers_of(type_, kind, live)
    mine = _taken_back(managers, me)
    before = NO_FIELDS.union(*(ownership.fields for ownership in mine.values()))
    now_wanted = managed.owned_through(kind, subresource, fieldset.owned(type_, config))
    managers[me] = Ownership(now_wanted, mine[me].time if list(mine) == [me] and before == now_wanted else now)

    merged = merge(type_, deepcopy(live), config) if live is not None else deepcopy(config)
    kept = fieldset.mentioned(type_, config).union(*(ownership.fields for ownership in managers.values()))
    prune(type_, merged, _with_parents(before) - _with_parents(kept) - _NEVER_GONE)
    merged["metadata"].pop("managedFields", None)

    changed = fieldset.compare(type_, live or {}, merged)
    # What this request can't change (the status, through the object itself) is put back later: nobody loses it, so nobody conflicts.
    written = managed.owned_through(kind, subresource, changed.added | changed.modified)
    conflicts = _conflicts(managers, me, written)  # of this version; verbs/owners.py asks about the others
    if not force:
        given_up = _applied_by_client(type_, live) if manager == KUBECTL and conflicts and live else NO_FIELDS
        conflicts = [each for each in conflicts if each[1] not in given_up]
        if conflicts:
            raise conflict(conflicts)
    managed.remove_owned(managers, me, written, managed.owned_through(kind, subresource, changed.removed))
    if not managers[me].fields:
        del managers[me]
    managed.write(merged, managers)
    if manager == KUBECTL and subresource != "scale":  # a Scale has no annotations
        _tell_client_side_apply(merged, config)
    return merged


def _tell_client_side_apply(obj: Object, config: Object) -> None:
    """Lets the annotation of kubectl's client-side apply say what was applied, where there is one: who goes back to that apply compares with it."""
    annotations = obj["metadata"].get("annotations")
    if not isinstance(annotations, dict) or not annotations.get(LAST_APPLIED):
        return
    metadata = dict(config["metadata"])
    if isinstance(said := metadata.get("annotations"), dict):
        metadata["annotations"] = {name: text for name, text in said.items() if name != LAST_APPLIED}
    annotations[LAST_APPLIED] = msgspec.json.encode({**config, "metadata": metadata}, order="deterministic").decode() + "\n"
    if sum(len(str(text).encode()) for pair in annotations.items() for text in pair) > _MOST_ANNOTATION_BYTES:
        del annotations[LAST_APPLIED]


def merge(type_: Type, live: Object, config: Object) -> Object:
    """Merges `config` into `live`, in place: maps and lists are merged where their type says so, and everything else is replaced."""
    for key, value in config.items():
        live[key] = _merge_value(fieldset.child(type_, key), live.get(key), value)
    return live


def _merge_value(type_: Type, live: Any, config: Any) -> Any:
    if type(live) is not type(config) or not fieldset.is_granular(type_, config):
        return deepcopy(config)
    if isinstance(config, dict):
        return merge(type_, live, config)
    return _merge_list(type_, live, config)


def _merge_list(type_: Type, live: list[Any], config: list[Any]) -> list[Any]:
    """Merges a list. Its items get the configuration's order; a live item that it does not name stays before the item that followed it."""
    there, wanted = fieldset.elements(type_, live), fieldset.elements(type_, config)
    others = iter([*there])
    merged = []
    for element, item in wanted.items():
        if element in there:
            for other in others:
                if other == element:
                    break
                if other not in wanted:
                    merged.append(there.pop(other))
        merged.append(_merge_value(type_.item or fieldset.ANY, there.pop(element, None), item))
    return merged + [item for element, item in there.items() if element not in wanted]


def prune(type_: Type, obj: Object, gone: Fields) -> None:
    """Removes these paths from the object, each with everything below it."""
    below: dict[str, set[Path]] = {}
    for path in gone:
        below.setdefault(path[0], set()).add(path[1:])
    for key in [key for key in obj if f"f:{key}" in below]:
        paths = below[f"f:{key}"]
        if () in paths:
            del obj[key]
        elif isinstance(obj[key], dict):
            prune(fieldset.child(type_, key), obj[key], frozenset(paths))
        elif isinstance(obj[key], list):
            _prune_list(fieldset.child(type_, key), obj[key], frozenset(paths))


def _prune_list(type_: Type, items: list[Any], gone: Fields) -> None:
    below: dict[str, set[Path]] = {}
    for path in gone:
        below.setdefault(path[0], set()).add(path[1:])
    kept = []
    for item in items:
        element = next(iter(fieldset.elements(type_, [item])), "")
        paths = below.get(element, set())
        if () in paths:
            continue
        if paths and isinstance(item, dict):
            prune(type_.item or fieldset.ANY, item, frozenset(paths))
        kept.append(item)
    items[:] = kept


def _with_parents(fields: Fields) -> Fields:
    """Adds the fields on the way to each path, so that a struct of which nobody owns a field any more is removed with its defaults. Items of lists are not added."""
    return fields | {path[:length] for path in fields for length in range(1, len(path)) if path[length - 1].startswith("f:")}


def _managers_of(type_: Type, kind: Kind, live: Object | None) -> Managers:
    """Returns the managers of the live object. If it has none, everything belongs to the manager `before-first-apply`, so that conflicts have a name."""
    if live is None:
        return {}
    entries = live["metadata"].get("managedFields")
    if entries:
        return managed.read(entries)
    fields = managed.owned_through(kind, "", fieldset.owned(type_, live))
    return {Manager(BEFORE_FIRST_APPLY, UPDATE, kind.api_version): Ownership(fields, live["metadata"].get("creationTimestamp", ""))}


def _taken_back(managers: Managers, me: Manager) -> Managers:
    """Takes out and returns what this applier applied before, through whichever version: it is the same one, and has one entry."""
    mine = {
        each: ownership
        for each, ownership in managers.items()
        if (each.name, each.operation, each.subresource) == (me.name, APPLY, me.subresource)
    }
    for each in mine:
        del managers[each]
    return mine


def _applied_by_client(type_: Type, live: Object) -> Fields:
    """Returns the fields of kubectl's last client-side apply that still have the applied values: they are no conflict for kubectl's server-side apply."""
    try:
        last = msgspec.json.decode(live["metadata"].get("annotations", {}).get(LAST_APPLIED, ""))
    except NOT_JSON:
        return NO_FIELDS
    if not isinstance(last, dict) or check(type_, last).error:
        return NO_FIELDS
    changed = fieldset.compare(type_, last, live)
    return fieldset.owned(type_, last) - changed.modified - changed.removed


def check_config(schema: Schema, kind: Kind, config: Any) -> None:
    """Raises ApiError 400 if the configuration is none of this kind."""
    _check_config(schema.type_of(kind.group, kind.version, kind.kind), kind, config)


def _check_config(type_: Type, kind: Kind, config: Any) -> None:
    if not isinstance(config, dict):
        message = f"json: cannot unmarshal {value_name(config)} into Go value of type map[string]interface {{}}"
        raise ApiError(400, "BadRequest", f"error decoding YAML: {message}")
    if config.get("apiVersion") != kind.api_version:
        message = f"Specified patch version: {config.get('apiVersion', '')}, expected: {kind.api_version}"
        raise ApiError(400, "BadRequest", f"Incorrect version specified in apply patch. {message}")
    if config.get("metadata") is None:
        config["metadata"] = {}
    metadata = config["metadata"]
    if isinstance(metadata, dict) and metadata.get("managedFields"):
        raise ApiError(400, "BadRequest", "metadata.managedFields must be nil")
    wrong = list(fieldset.problems(type_, config))
    if not wrong and kind.decoder is None:  # a custom kind's numbers have no Go type; its schema is asked later
        error = check(type_, config).error
        wrong = [error] if error else []
    if wrong:
        message = wrong[0] if len(wrong) == 1 else "errors:\n  " + "\n  ".join(wrong)
        raise ApiError(400, "BadRequest", f"failed to create typed patch object ({_named(kind, metadata)}): {message}")


def _named(kind: Kind, metadata: Any) -> str:
    """Names an object as Kubernetes does in these errors: `default/web; /v1, Kind=Service`."""
    known = metadata if isinstance(metadata, dict) else {}
    return f"{known.get('namespace', '')}/{known.get('name', '')}; {kind.group}/{kind.version}, Kind={kind.kind}"


def _no_manager() -> ApiError:
    message = "Required value: is required for apply patch"
    causes = [{"reason": "FieldValueRequired", "message": message, "field": "fieldManager"}]
    details = {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": causes}
    return ApiError(422, "Invalid", f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {message}', details=details)


def _conflicts(managers: Managers, me: Manager, changed: Fields) -> list[tuple[Manager, Path]]:
    """Returns (manager, path) of each field that this apply would change and another manager owns, in a stable order."""
    others = [manager for manager in managers if manager != me and manager.api_version == me.api_version]
    found = [(manager, path) for manager in others for path in managers[manager].fields & changed]
    return sorted(found, key=lambda each: (each[0].name, str(each[0]), each[1]))


def conflict(conflicts: list[tuple[Manager, Path]]) -> ApiError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": fieldset.show(path)}
        for manager, path in conflicts
    ]
    if len(conflicts) == 1:
        [(manager, path)] = conflicts
        message = f"Apply failed with 1 conflict: conflict with {manager}: {fieldset.show(path)}"
    else:
        lines = []
        for manager in dict.fromkeys(manager for manager, _ in conflicts):
            lines.append(f"conflicts with {manager}:")
            lines += [f"- {fieldset.show(path)}" for of, path in conflicts if of == manager]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", message, details={"causes": causes})
