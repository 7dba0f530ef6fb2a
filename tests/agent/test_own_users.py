"""What a Node says of its pods' own users: it is found out beside the agent's start, which does not wait for it."""

import threading

from labctl.agent.node import NodeKeeper
from labctl.agent.ownusers import OwnUsers
from labctl.agent.settings import of


class Api:
    """Keeps one Node, and remembers each status that was reported."""

    def __init__(self):
        self.node, self.reported = {}, []

    async def create(self, _path, wanted):
        self.node = {**wanted, "status": {}}
        return self.node

    async def patch(self, _path, patch):
        self.reported.append(patch["status"]["runtimeHandlers"][0]["features"]["userNamespaces"])
        self.node = {**self.node, **patch}
        return self.node


def keeper(tmp_path, api, own_users):
    settings = of({"node": "a", "url": "http://127.0.0.1:1", "stateDir": str(tmp_path)}, str(tmp_path))
    return NodeKeeper(settings, "boot", "10.0.0.1", api, lambda _cidr: None, list, print, own_users=own_users)


async def test_a_node_registers_first_and_says_it_then(tmp_path):
    begun, may_end, asked = threading.Event(), threading.Event(), []

    def possible():
        asked.append(1)
        begun.set()
        return may_end.wait(10)

    api, own_users = Api(), OwnUsers(possible)
    node = keeper(tmp_path, api, own_users)
    await node.register()
    assert api.reported == [False] and not asked
    may_end.set()
    await node.learn()
    assert api.reported == [False, True] and begun.is_set()
    assert await own_users.found() and asked == [1]
    again = keeper(tmp_path, api, OwnUsers(possible))  # an agent that starts again does not take it back meanwhile
    again._node = api.node
    await again.report(always=True)
    assert api.reported == [False, True, True]
