"""What every lab has comes back when it is deleted, and nothing else does."""

from labctl.controllers.essentials import Essentials
from labctl.resources.bootstrap import BootstrapSettings, essentials
from labctl.sim.picture import Picture


def there(essential):
    kinds = {"namespaces": "Namespace", "services": "Service", "endpoints": "Endpoints", "servicecidrs.networking.k8s.io": "ServiceCIDR"}
    return {"kind": kinds.get(essential.resource, "EndpointSlice"), **essential.object}


def test_each_comes_back():
    wanted = essentials(BootstrapSettings("10.245.1.1"), "10.247.0.0/16")
    picture = Picture([Essentials(wanted)])
    for essential in wanted:
        key = f"{essential.resource}/{essential.key}"
        picture.put(there(essential))
        assert not picture.plan(key).actions
        picture.drop(essential.resource, essential.key)
        (again,) = picture.plan(key).actions
        assert (again.kind, again.object) == (essential.resource, essential.object)
    assert {key.split("/")[0] for key in picture.dirty["essentials"]} == {essential.resource for essential in wanted}


def test_nobody_elses():
    picture = Picture([Essentials(essentials(BootstrapSettings(), "10.247.0.0/16"))])
    picture.put({"kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": {}})
    picture.drop("services", "default/web")
    assert not picture.dirty["essentials"]
