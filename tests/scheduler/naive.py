"""Kubernetes' rules of where a pod may go, read as slowly and plainly as they are written: every node, every pod, nothing remembered."""

from typing import Any

from labctl.resources.quantities import to_bytes, to_millicores
from labctl.resources.selectors import from_object

Object = dict[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


class Naive:
    """`pods` are JSON objects with spec.nodeName; `nodes` and `namespaces` are labels by name."""

    def __init__(self, nodes: dict[str, dict[str, str]], pods: list[Object], namespaces: dict[str, dict[str, str]], cpu: int, memory: int):
        self.nodes, self.pods, self.namespaces = nodes, pods, namespaces
        self.cpu, self.memory = cpu, memory

    def allows(self, pod: Object, node: str) -> bool:
        return self._room(pod, node) and self._ports(pod, node) and self._spread(pod, node) and self._affinity(pod, node)

    def _room(self, pod: Object, node: str) -> bool:
        there = [one for one in self.pods if one["spec"]["nodeName"] == node]
        asked = [one["spec"]["containers"][0].get("resources", {}).get("requests", {}) for one in (*there, pod)]
        cpu, memory = sum(to_millicores(r.get("cpu", 0)) for r in asked), sum(to_bytes(r.get("memory", 0)) for r in asked)
        mine = asked[-1]  # a pod that asks for none of it comes to a node that is too full as well
        return (cpu <= self.cpu or not mine.get("cpu")) and (memory <= self.memory or not mine.get("memory"))

    def _ports(self, pod: Object, node: str) -> bool:
        taken = [port for one in self.pods if one["spec"]["nodeName"] == node for port in _host_ports(one)]
        return not any(
            mine["hostPort"] == its["hostPort"] and mine["protocol"] == its["protocol"] and _same_address(mine["hostIP"], its["hostIP"])
            for mine in _host_ports(pod)
            for its in taken
        )

    # -- affinity --------------------------------------------------------------------------------------------------------------------------

    def _affinity(self, pod: Object, node: str) -> bool:
        near, far = _terms(pod, "podAffinity"), _terms(pod, "podAntiAffinity")
        matching = [one for one in self.pods if all(self._speaks_of(term, pod, one) for term in near)]
        first = all(self._speaks_of(term, pod, pod) for term in near) and not any(
            term["topologyKey"] in self.nodes[one["spec"]["nodeName"]] for one in matching for term in near
        )
        for term in near:
            if term["topologyKey"] not in self.nodes[node]:
                return False
            if not first and not any(self._same_domain(term, one, node) for one in matching):
                return False
        if any(self._speaks_of(term, pod, one) and self._same_domain(term, one, node) for term in far for one in self.pods):
            return False
        return not any(
            self._speaks_of(term, one, pod) and self._same_domain(term, one, node)
            for one in self.pods
            for term in _terms(one, "podAntiAffinity")
        )

    def _same_domain(self, term: Object, there: Object, node: str) -> bool:
        key, other = term["topologyKey"], self.nodes[there["spec"]["nodeName"]]
        return key in other and key in self.nodes[node] and other[key] == self.nodes[node][key]

    def _speaks_of(self, term: Object, whose: Object, pod: Object) -> bool:
        namespace, selector = pod["metadata"]["namespace"], term.get("namespaceSelector")
        names = term.get("namespaces", [])
        if not names and selector is None:
            names = [whose["metadata"]["namespace"]]
        covered = namespace in names or (selector is not None and from_object(selector).matches(self.namespaces[namespace]))
        return covered and from_object(term.get("labelSelector")).matches(pod["metadata"]["labels"])

    # -- spread ----------------------------------------------------------------------------------------------------------------------------

    def _spread(self, pod: Object, node: str) -> bool:
        hard = [one for one in pod["spec"].get("topologySpreadConstraints", ()) if one["whenUnsatisfiable"] == "DoNotSchedule"]
        eligible = {name: labels for name, labels in self.nodes.items() if all(one["topologyKey"] in labels for one in hard)}
        for one in hard:
            key, selector = one["topologyKey"], from_object(one.get("labelSelector"))
            if key not in self.nodes[node]:
                return False
            counts = {labels[key]: 0 for labels in eligible.values()}
            for there in self.pods:
                name, metadata = there["spec"]["nodeName"], there["metadata"]
                same = metadata["namespace"] == pod["metadata"]["namespace"] and "deletionTimestamp" not in metadata
                if name in eligible and same and selector.matches(metadata["labels"]):
                    counts[eligible[name][key]] += 1
            least = min(counts.values(), default=0) if len(counts) >= one.get("minDomains", 1) else 0
            itself = selector.matches(pod["metadata"]["labels"])
            if counts.get(self.nodes[node][key], 0) + itself - least > one["maxSkew"]:
                return False
        return True


def _terms(pod: Object, name: str) -> list[Object]:
    return pod["spec"].get("affinity", {}).get(name, {}).get(REQUIRED, [])


def _host_ports(pod: Object) -> list[Object]:
    return [port for port in pod["spec"]["containers"][0].get("ports", ()) if port.get("hostPort")]


def _same_address(one: str, other: str) -> bool:
    return one == other or "" in (one, other) or "0.0.0.0" in (one, other)
