"""What is malformed in the words of `labctl trace` is said, and nobody is asked about it. The way itself: tests/proxy/test_walk.py, tests/e2e/test_services.py."""

from __future__ import annotations

from typing import Any, cast

import pytest

from labctl.errors import LabctlError, UsageError
from labctl.lab.folder import LabFolder
from labctl.lab.trace import trace


class Api:
    """Answers with the objects that it is given, and notes what it was asked."""

    def __init__(self, **objects: Any) -> None:
        self.objects, self.asked = objects, list[str]()

    def find(self, path: str) -> Any:
        self.asked.append(path)
        return self.objects.get(path.rpartition("/")[2])

    def get(self, path: str) -> Any:
        self.asked.append(path)
        return {"items": list(self.objects.values())}


class Folder:
    def __init__(self, api: Api) -> None:
        self.api = api


def asked(api: Api, to: str, **options: str) -> None:
    trace(cast(LabFolder, Folder(api)), to, **options)


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("web/", "'web/' names no Service"),
        ("/web", "'/web' names no namespace"),
        ("", "'' names no Service"),
        (":80", "':80' names no Service"),
        ("300.1.1.1", "'300.1.1.1' is no IPv4 address"),
        ("1.2.3", "'1.2.3' is no IPv4 address"),
        ("010.1.1.1:80", "'010.1.1.1' is no IPv4 address"),
        ("10.247.0.10:0", "'0' is no port"),
        ("web:http", "'http' is no port"),
        ("web:", "'' is no port"),
        ("web:" + "9" * 5000, "is no port"),
        ("web:²", "is no port"),
        ("fd00::1", "is no port"),
        ("a/b/c", "'a/b' can't be the name of a namespace"),
        ("../web", "'..' can't be the name of a namespace"),
        ("Web", "'Web' can't be the name of a Service"),
        ("web.shop", "'web.shop' can't be the name of a Service"),
        ("x" * 10_000, "can't be the name of a Service"),
        ("a\x1b[2J", "can't be the name of a Service"),
    ],
)
def test_what_is_malformed_is_said(to: str, why: str) -> None:
    api = Api()
    with pytest.raises(UsageError) as raised:
        asked(api, to)
    assert why in str(raised.value) and len(str(raised.value)) < 400 and not api.asked


@pytest.mark.parametrize("client", ["pod/", "pod/a/b/c", "../x", "a b", "\x1b[2J", "pod/" + "x" * 300])
def test_a_client_that_can_be_nobody_is_said(client: str) -> None:
    api = Api()
    with pytest.raises(UsageError, match="can't be the name of a pod"):
        asked(api, "web", client=client)
    assert not api.asked


@pytest.mark.parametrize("address", ["::1", "127.0.0.1; reboot", "web"])
def test_a_status_that_names_no_address_is_said(address: str) -> None:
    pod = {"status": {"podIP": address}, "spec": {"nodeName": "minion-1"}}
    node = {"metadata": {"name": "minion-1"}, "status": {"addresses": [{"type": "InternalIP", "address": address}]}}
    for api, client in ((Api(web=pod), "pod/web"), (Api(**{"minion-1": node}), "minion-1")):
        with pytest.raises(LabctlError, match="which is none of IPv4"):
            asked(api, "web", client=client)
