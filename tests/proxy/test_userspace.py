"""What a minion's forwarder is told in userspace mode."""

import pytest

from labctl.proxy import userspace
from labctl.proxy.frontends import Backend, Frontend
from labctl.proxy.rules import Facts

NEAR, FAR = Backend("10.245.1.11", 10053, "minion-1"), Backend("10.245.1.12", 10053, "minion-2")


@pytest.mark.parametrize(
    ("more", "backends"),
    [
        ({}, [NEAR, FAR]),
        ({"internal_local": True}, [NEAR]),
        ({"internal_local": True, "node_port": 30000}, [NEAR, FAR]),
    ],
)
def test_clients_of_a_local_service_stay_on_their_minion(more, backends):
    frontend = Frontend("kube-system/kube-dns", "dns", "UDP", "10.247.0.10", 53, (NEAR, FAR), local_port=20_000, **more)
    (port,) = userspace.ports({"kube-system/kube-dns": (frontend,)}, Facts("minion-1", "10.245.1.11", userspace=True))
    assert port["backends"] == [[each.address, each.port] for each in backends]
