"""A pod's resolv.conf, case by case as Kubernetes' documentation says it."""

import pytest

from labctl.agent.resolver import resolver

NODE = "# the machine's\ndomain example.com\nnameserver 192.0.2.53\nsearch lab.example\noptions timeout:1 rotate\n"
OURS = "default.svc.cluster.local svc.cluster.local cluster.local"
CONFIG = {
    "nameservers": ["192.0.2.1", "10.247.0.10"],
    "searches": ["my.example", "cluster.local"],
    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
}


def made(node=NODE, dns=("10.247.0.10",), **spec):
    return resolver({"metadata": {"namespace": "default"}, "spec": spec}, node, dns, "cluster.local").splitlines()


@pytest.mark.parametrize(
    ("spec", "lines"),
    [
        ({}, [f"search {OURS} lab.example", "nameserver 10.247.0.10", "options ndots:5"]),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, ["search lab.example", "nameserver 192.0.2.53", "options timeout:1 rotate"]),
        (
            {"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True},
            [f"search {OURS} lab.example", "nameserver 10.247.0.10", "options ndots:5"],
        ),
        ({"dnsPolicy": "Default"}, ["search lab.example", "nameserver 192.0.2.53", "options timeout:1 rotate"]),
        (
            {"dnsPolicy": "None", "dnsConfig": CONFIG},
            ["search my.example cluster.local", "nameserver 192.0.2.1", "nameserver 10.247.0.10", "options ndots:2 edns0"],
        ),
        (
            {"dnsConfig": CONFIG},
            [f"search {OURS} lab.example my.example", "nameserver 10.247.0.10", "nameserver 192.0.2.1", "options ndots:2 edns0"],
        ),
    ],
)
def test_policies(spec, lines):
    assert made(**spec) == lines


def test_a_machine_that_says_nothing():
    assert made(node="") == [f"search {OURS}", "nameserver 10.247.0.10", "options ndots:5"]
    assert made(node="", dnsPolicy="Default") == [""]


def test_without_a_cluster_dns_the_machines_own_is_used():
    assert made(dns=()) == made(dnsPolicy="Default")


def test_what_the_c_library_would_not_read_is_left_out():
    config = {"nameservers": [f"192.0.2.{n}" for n in range(9)], "searches": [f"{'x' * 60}{n}.example" for n in range(60)]}
    search, *servers, _ = made(dnsConfig=config)
    assert len(servers) == 3 and len(search.split()) <= 33 and len(search) < 2060
