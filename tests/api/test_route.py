"""Paths to what they name, and Accept to the form of an answer."""

from __future__ import annotations

import pytest

from labctl.api import negotiate
from labctl.api.negotiate import DISCOVERY_SHAPES, PLAIN, Format
from labctl.api.route import Target, parse
from labctl.errors import ApiError


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/pods", Target("", "v1", "pods")),
        ("/api/v1/pods/", Target("", "v1", "pods")),
        ("/api/v1/nodes/minion-1/status", Target("", "v1", "nodes", "", "minion-1", "status")),
        ("/api/v1/namespaces", Target("", "v1", "namespaces")),
        ("/api/v1/namespaces/shop", Target("", "v1", "namespaces", "", "shop")),
        ("/api/v1/namespaces/shop/finalize", Target("", "v1", "namespaces", "", "shop", "finalize")),
        ("/api/v1/namespaces/shop/pods", Target("", "v1", "pods", "shop")),
        ("/api/v1/namespaces/shop/pods/p/log", Target("", "v1", "pods", "shop", "p", "log")),
        ("/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b", Target("discovery.k8s.io", "v1", "endpointslices", "a", "b")),
        ("/apis/labctl.internal/v1/machines", Target("labctl.internal", "v1", "machines")),
        ("/api/v1/namespaces/a/pods/p/proxy", Target("", "v1", "pods", "a", "p", "proxy")),
        ("/api/v1/namespaces/a/pods/p/proxy/", Target("", "v1", "pods", "a", "p", "proxy", "/")),
        ("/api/v1/namespaces/a/services/http:s:80/proxy/x/y%20z", Target("", "v1", "services", "a", "http:s:80", "proxy", "/x/y%20z")),
        ("/api/v1/namespaces/a/services/s/proxy/deep/proxy/x", Target("", "v1", "services", "a", "s", "proxy", "/deep/proxy/x")),
        ("/api/v1/namespaces/a/configmaps/b%3Ac", Target("", "v1", "configmaps", "a", "b:c")),
    ],
)
def test_what_a_path_names(path: str, target: Target) -> None:
    assert parse(path) == target


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/v1", "/api/v1/", "/apis/labctl.internal/v1", "/version", "/api/v1/namespaces//pods", "/api/v1/pods/a/b/c",
     "/api/v1/namespaces/a/pods/p/log/more", "/api/v1/namespaces/a/pods/..%2fsecrets"],
)  # fmt: skip
def test_what_names_no_object(path: str) -> None:
    assert parse(path) is None


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("application/json", PLAIN),
        ("application/vnd.kubernetes.protobuf,application/json", PLAIN),
        ("application/yaml", Format(yaml=True)),
        ("application/json;q=0.1,application/yaml", Format(yaml=True)),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Format("Table")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Format("Table", version="v1beta1")),
        ("application/json;as=Table;v=v1beta2;g=meta.k8s.io,application/json", PLAIN),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Format("PartialObjectMetadata")),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", PLAIN),
    ],
)
def test_the_form_that_was_asked_for(accept: str, form: Format) -> None:
    assert negotiate.accepted(accept) == form


def test_forms_are_those_of_the_path() -> None:
    asked = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert negotiate.accepted(asked, DISCOVERY_SHAPES).shape == "APIGroupDiscoveryList"
    with pytest.raises(ApiError) as refused:
        negotiate.accepted(asked)
    assert refused.value.code == 406
