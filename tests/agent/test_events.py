"""Events of the agent: their names are in the order of time, because lists and `kubectl describe` show what has one second in the order of names."""

import asyncio
import contextlib

from labctl.agent.events import Recorder, of_pod


class Api:
    def __init__(self):
        self.made = []

    async def create(self, path, body):
        self.made.append(body)

    async def patch(self, path, body, kind):
        self.made[0].update(body)


async def told(api, *reasons):
    recorder = Recorder(api, "minion-1")
    run = asyncio.create_task(recorder.run())
    pod = {"metadata": {"namespace": "default", "name": "web", "uid": "1"}, "spec": {"containers": []}}
    for reason in reasons:
        recorder.record(of_pod(pod, "web"), "Normal", reason, reason)
    while not recorder._queue.empty():
        await asyncio.sleep(0)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run


async def test_names_are_in_the_order_of_time():
    api = Api()
    reasons = ["Pulling", "Pulled", "Created", "Started", "Killing", "Unhealthy", "BackOff"]
    await told(api, *reasons)
    assert [event["reason"] for event in sorted(api.made, key=lambda event: event["metadata"]["name"])] == reasons


async def test_what_repeats_is_counted():
    api = Api()
    await told(api, "BackOff", "BackOff", "BackOff")
    assert [event["count"] for event in api.made] == [3]
