import pytest

from labctl.controllers.clusterdns import ClusterDns
from labctl.reconcile.plan import Create, Delete
from labctl.resources.bootstrap import DNS_SERVICE, BootstrapSettings, essentials
from labctl.sim.picture import Picture

SERVICE = next(e.object for e in essentials(BootstrapSettings(dns_address="10.247.0.10"), "10.247.0.0/16") if e.key == DNS_SERVICE)


def kube_dns(**spec):
    return {"kind": "Service", "apiVersion": "v1", "metadata": {**SERVICE["metadata"], "uid": "u"}, "spec": {**SERVICE["spec"], **spec}}


def node(name, address):
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}, "status": status}


@pytest.fixture
def picture():
    made = Picture([ClusterDns()])
    made.put(kube_dns())
    made.put(node("minion-2", "10.245.1.12"))
    made.put(node("minion-1", "10.245.1.11"))
    return made


def settle(picture):
    actions = picture.plan(DNS_SERVICE, "cluster-dns").actions
    for action in actions:
        if isinstance(action, Delete):
            picture.drop(action.kind, action.key)
            continue
        if isinstance(action, Create):
            action.object["metadata"]["name"] = "kube-dns-x"
        picture.put(action.object)
    return actions


def shown(picture):
    return [
        ([(e.addresses, e.node_name) for e in piece.endpoints], sorted((p.protocol, p.port) for p in piece.ports))
        for piece in picture.view.all("endpointslices.discovery.k8s.io")
    ]


def test_every_node_is_an_endpoint_for_its_own_pods(picture):
    settle(picture)
    assert shown(picture) == [
        ([(("10.245.1.11",), "minion-1"), (("10.245.1.12",), "minion-2")], [("TCP", 10053), ("UDP", 10053)]),
    ]
    assert not settle(picture)
    picture.put(node("minion-3", "10.245.1.13"))
    settle(picture)
    assert len(shown(picture)[0][0]) == 3


def test_a_selector_means_that_somebody_else_answers(picture):
    settle(picture)
    picture.put(kube_dns(selector={"k8s-app": "coredns"}))
    settle(picture)
    assert shown(picture) == []
