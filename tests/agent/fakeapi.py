"""The API as the agent's modules see it (client.Api's methods), in memory: enough of pods, their status, Events and ConfigMaps."""

from __future__ import annotations

import asyncio
import copy

from labctl.agent.client import Refused
from labctl.agent.http import Unreachable


class FakeApi:
    """`objects` by path. `away` makes every call fail; `writes` is what was asked, in order."""

    def __init__(self):
        self.objects = {}
        self.writes = []
        self.events = []
        self.away = False
        self._revision = 0

    def put(self, path, value):
        self._revision += 1
        value = copy.deepcopy(value)
        value["metadata"]["resourceVersion"] = str(self._revision)
        self.objects[path] = value
        return copy.deepcopy(value)

    def _there(self, path):
        if self.away:
            raise Unreachable("no route")
        if path not in self.objects:
            raise Refused(404, "NotFound", f"{path} not found")
        return self.objects[path]

    async def pause(self, seconds):
        await asyncio.sleep(seconds)

    async def get(self, path, timeout_s=10.0, **query):
        return copy.deepcopy(self._there(path))

    async def create(self, path, value):
        if self.away:
            raise Unreachable("no route")
        if path.endswith("/events"):
            self.events.append(value)
            return value
        return self.put(f"{path}/{value['metadata']['name']}", value)

    async def replace(self, path, value):
        self._there(path)
        return self.put(path, value)

    async def patch(self, path, value, kind=""):
        if "/events/" in path:
            return value
        base = path.removesuffix("/status")
        there = self._there(base)
        self.writes.append((path, value))
        uid = value.get("metadata", {}).get("uid")
        if uid and uid != there["metadata"]["uid"]:
            raise Refused(409, "Conflict", "uid")
        status = copy.deepcopy(value["status"])
        old = {each["type"]: each for each in there.get("status", {}).get("conditions", [])}
        for condition in status.pop("conditions", []):
            if condition.get("$patch") == "delete":
                old.pop(condition["type"], None)
                continue
            merged = {**old.get(condition["type"], {}), **condition}
            old[condition["type"]] = {key: each for key, each in merged.items() if each is not None}
        status = {**there.get("status", {}), **status, "conditions": list(old.values())}
        return self.put(base, {**there, "status": status})

    async def delete(self, path, options):
        there = self._there(path)
        self.writes.append((path, options))
        if options["preconditions"]["uid"] != there["metadata"]["uid"]:
            raise Refused(409, "Conflict", "uid")
        return self.objects.pop(path)

    def reasons(self):
        return [event["reason"] for event in self.events]
