"""Ingress and IngressClass: stored, with a warning, and with Kubernetes' own rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.resources.conftest import Lab

INGRESSES, CLASSES = "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io"
WEB = {"service": {"name": "web", "port": {"number": 80}}}


def ingress(**path: Any) -> dict[str, Any]:
    given = {"path": "/", "pathType": "Prefix", "backend": WEB} | path
    return {"metadata": {"name": "web"}, "spec": {"rules": [{"host": "web.example", "http": {"paths": [given]}}]}}


async def test_one_is_stored(lab: Lab) -> None:
    await lab.create(INGRESSES, ingress())
    made: Any = lab.get(INGRESSES, "web")
    assert made["spec"] == ingress()["spec"] and made["status"] == {"loadBalancer": {}}
    assert list(lab.kind(INGRESSES).warnings(made, None)) and not list(lab.kind(INGRESSES).warnings(made, made))
    await lab.create(CLASSES, {"metadata": {"name": "web"}, "spec": {"controller": "example.com/web"}})


AT = "spec.rules[0].http.paths[0]"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"metadata": {"name": "web"}, "spec": {}}, "either `defaultBackend` or `rules` must be specified"),
        (ingress(pathType=None), f"{AT}.pathType: Required value: pathType must be specified"),
        (ingress(path="web"), f'{AT}.path: Invalid value: "web": must be an absolute path'),
        (ingress(backend={}), f'{AT}.backend: Invalid value: "": resource or service backend is required'),
        (ingress(backend={"service": {"name": "web"}}), f"{AT}.backend: Required value: port name or number is required"),
    ],
)
async def test_refused(lab: Lab, body: dict[str, Any], words: str) -> None:
    error = await lab.refused(INGRESSES, body)
    assert error.code == 422 and words in error.message


async def test_a_class_needs_a_controller_that_stays(lab: Lab) -> None:
    error = await lab.refused(CLASSES, {"metadata": {"name": "web"}, "spec": {"controller": "web"}})
    assert 'must be a domain-prefixed path (such as "acme.io/foo")' in error.message
