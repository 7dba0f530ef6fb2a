"""Jobs and CronJobs in a whole world in virtual time."""

import asyncio

import pytest

from labctl.clock import parse_rfc3339, rfc3339
from labctl.sim.objects import job
from tests.sim.test_deployments import lived

JOBS, CRON_JOBS = "jobs.batch", "cronjobs.batch"


def of(world, name="work"):
    return world.client.get(JOBS, f"default/{name}")


def pods(world):
    return world.client.list("pods")


def condition(world, type_, name="work"):
    return next((c for c in of(world, name).status.conditions if c.type == type_ and c.status == "True"), None)


async def until(world, told, within_s=120.0):
    began = world.clock.now()
    while not told():
        assert world.clock.now() - began < within_s, world.client.raw(JOBS, "default/work")
        await asyncio.sleep(0.01)


async def ended(world, type_, within_s=120.0):
    await until(world, lambda: condition(world, type_), within_s)
    return condition(world, type_)


def test_one_pod_that_succeeds():
    async def story(world):
        await world.client.create(JOBS, job("work"))
        said = await ended(world, "Complete")
        assert said.reason == "CompletionsReached"
        status = of(world).status
        assert (status.succeeded, status.failed, status.active) == (1, 0, 0)
        assert status.start_time and status.completion_time
        assert condition(world, "SuccessCriteriaMet")
        await until(world, lambda: not any(p.metadata.finalizers for p in pods(world)))
        assert [p.status.phase for p in pods(world)] == ["Succeeded"], "its pods stay, for their logs"

    lived(story)


def test_completions_are_reached_and_never_more_pods_at_once_than_allowed():
    async def story(world):
        await world.client.create(JOBS, job("work", completions=7, parallelism=3))
        most = 0
        while not condition(world, "Complete"):
            most = max(most, sum(p.active for p in pods(world)))
            await asyncio.sleep(0.01)
        assert most == 3 and of(world).status.succeeded == 7 == len(pods(world))

    lived(story)


def test_failures_back_off_and_too_many_end_it():
    async def story(world):
        began = world.clock.now()
        await world.client.create(JOBS, job("work", ends="0.1 3", backoffLimit=2))
        said = await ended(world, "Failed")
        assert said.reason == "BackoffLimitExceeded"
        assert of(world).status.failed == 3 and condition(world, "FailureTarget")
        assert world.clock.now() - began >= 10 + 20, "10 s after the first, 20 s after the second"

    lived(story)


def test_a_deadline_ends_what_runs():
    async def story(world):
        await world.client.create(JOBS, job("work", ends="", activeDeadlineSeconds=5))
        said = await ended(world, "Failed")
        assert said.reason == "DeadlineExceeded"
        await until(world, lambda: not any(p.active for p in pods(world)))

    lived(story)


def test_an_indexed_job_does_each_index_once():
    async def story(world):
        await world.client.create(JOBS, job("work", completionMode="Indexed", completions=5, parallelism=2))
        await ended(world, "Complete")
        assert of(world).status.completed_indexes == "0-4"
        indexes = sorted(p.metadata.annotations["batch.kubernetes.io/job-completion-index"] for p in pods(world))
        assert indexes == list("01234")
        whole = world.client.raw("pods", pods(world)[0].metadata.key)
        assert whole["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"
        assert whole["spec"]["hostname"].startswith("work-")

    lived(story)


def test_an_index_that_fails_too_often_leaves_the_others_alone():
    async def story(world):
        whole = job("work", ends="0.1 1", completionMode="Indexed", completions=3, parallelism=3, backoffLimitPerIndex=1)
        await world.client.create(JOBS, whole)
        said = await ended(world, "Failed")
        assert said.reason == "FailedIndexes" and of(world).status.failed_indexes == "0-2"
        assert of(world).status.failed == 6

    lived(story)


def test_a_failure_policy_fails_the_job_at_once_or_ignores():
    async def story(world):
        rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
        await world.client.create(JOBS, job("work", ends="0.1 42", podFailurePolicy={"rules": rules}))
        said = await ended(world, "Failed")
        assert said.reason == "PodFailurePolicy"
        assert "failed with exit code 42 matching FailJob rule at index 0" in said.message

    lived(story)


def test_a_success_policy_ends_it_before_all_is_done():
    async def story(world):
        policy = {"rules": [{"succeededIndexes": "0"}]}
        whole = job("work", completionMode="Indexed", completions=4, parallelism=1, successPolicy=policy)
        await world.client.create(JOBS, whole)
        said = await ended(world, "Complete")
        assert said.reason == "SuccessPolicy" and of(world).status.succeeded == 1

    lived(story)


def test_suspended_jobs_run_nothing_until_they_are_resumed():
    async def story(world):
        await world.client.create(JOBS, job("work", suspend=True))
        await until(world, lambda: condition(world, "Suspended"))
        await asyncio.sleep(5)
        assert not pods(world) and of(world).status.start_time is None
        await world.client.patch(JOBS, "default/work", {"spec": {"suspend": False}})
        await ended(world, "Complete")

    lived(story)


def test_pods_that_end_because_the_job_is_suspended_are_no_failures():
    async def story(world):
        await world.client.create(JOBS, job("work", ends="20 0", parallelism=2, completions=2, backoffLimit=1))
        for _ in range(3):
            await until(world, lambda: of(world).status.ready == 2)
            await world.client.patch(JOBS, "default/work", {"spec": {"suspend": True}})
            await until(world, lambda: not pods(world))
            await world.client.patch(JOBS, "default/work", {"spec": {"suspend": False}})
        await ended(world, "Complete")
        assert (of(world).status.succeeded, of(world).status.failed) == (2, 0)

    lived(story)


def test_pods_that_end_because_the_job_wants_fewer_are_no_failures():
    async def story(world):
        fewer, more = {"completions": 1, "parallelism": 1}, {"completions": 4, "parallelism": 4}
        await world.client.create(JOBS, job("work", ends="20 0", completionMode="Indexed", backoffLimit=1, **more))
        for sizes in (fewer, more, fewer, more):
            await until(world, lambda: of(world).status.ready == of(world).spec.parallelism)
            await world.client.patch(JOBS, "default/work", {"spec": sizes})
        await ended(world, "Complete")
        assert (of(world).status.succeeded, of(world).status.failed) == (4, 0)

    lived(story)


def test_a_status_says_zero_ready_and_zero_terminating_from_the_beginning():
    async def story(world):
        await world.client.create(JOBS, job("work", parallelism=0))
        await until(world, lambda: of(world).status.start_time)
        assert (of(world).status.ready, of(world).status.terminating) == (0, 0)

    lived(story)


def test_a_finished_job_goes_when_its_time_to_live_is_over():
    async def story(world):
        await world.client.create(JOBS, job("work", ttlSecondsAfterFinished=20))
        await ended(world, "Complete")
        await asyncio.sleep(15)
        assert of(world) is not None
        await until(world, lambda: of(world) is None and not pods(world))

    lived(story)


def test_a_pod_that_somebody_deletes_counts_once_and_is_replaced():
    async def story(world):
        await world.client.create(JOBS, job("work", ends="3 0", completions=1))
        await until(world, lambda: any(p.ready for p in pods(world)))
        await world.client.delete("pods", pods(world)[0].metadata.key)
        await ended(world, "Complete")
        assert (of(world).status.succeeded, of(world).status.failed) == (1, 1)

    lived(story)


def test_pods_of_a_job_that_is_deleted_at_once_go_with_it():
    async def story(world):
        await world.client.create(JOBS, job("work", ends="", parallelism=2, completions=2))
        await until(world, lambda: len([p for p in pods(world) if p.status.phase == "Running"]) == 2)
        await world.client.delete(JOBS, "default/work", propagation="Background")
        await until(world, lambda: not pods(world))

    lived(story)


def test_pods_that_outlive_their_job_may_be_deleted():
    async def story(world):
        await world.client.create(JOBS, job("work", ends=""))
        await until(world, lambda: [p for p in pods(world) if p.status.phase == "Running"])
        await world.client.delete(JOBS, "default/work", propagation="Orphan")
        await until(world, lambda: not any(p.metadata.finalizers for p in pods(world)))
        assert [p.metadata.controller for p in pods(world)] == [None]

    lived(story)


def test_a_node_that_dies_costs_only_its_pods():
    async def story(world):
        await world.client.create(JOBS, job("work", ends="3 0", completions=6, parallelism=6))
        await until(world, lambda: sum(p.ready for p in pods(world)) == 6)
        await world.power_off("minion-1")
        await ended(world, "Complete")
        assert of(world).status.succeeded == 6

    lived(story)


def test_a_job_that_ignores_disruptions_loses_nothing_by_a_nodes_death():
    async def story(world):
        ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        policy = {"rules": [ignore]}
        await world.client.create(JOBS, job("work", ends="3 0", completions=6, parallelism=6, backoffLimit=0, podFailurePolicy=policy))
        await until(world, lambda: sum(p.ready for p in pods(world)) == 6)
        await world.power_off("minion-1")
        await ended(world, "Complete")
        assert (of(world).status.succeeded, of(world).status.failed) == (6, 0)

    lived(story)


def test_a_master_that_restarts_counts_nothing_twice():
    async def story(world):
        await world.client.create(JOBS, job("work", ends="0.3 0", completions=20, parallelism=4))
        for _ in range(6):
            await asyncio.sleep(0.5)
            await world.restart_master()
        await ended(world, "Complete")
        assert of(world).status.succeeded == 20

    lived(story)


# -- cron ------------------------------------------------------------------------------------------------------------------------------


def cron(schedule="* * * * *", **spec):
    template = {"spec": job("x", **spec.pop("job", {}))["spec"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": schedule, "jobTemplate": template, **spec},
    }


def jobs(world):
    return sorted(world.client.list(JOBS), key=lambda each: each.metadata.name)


def test_a_cronjob_makes_a_job_each_minute_and_keeps_three():
    async def story(world):
        await world.client.create(CRON_JOBS, cron())
        await asyncio.sleep(10 * 60)
        assert len(jobs(world)) in (3, 4)
        for each in jobs(world):
            due = parse_rfc3339(each.metadata.annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"])
            assert due % 60 == 0 and each.metadata.name == f"tick-{int(due) // 60}"
            assert 0 <= parse_rfc3339(each.metadata.creation_timestamp) - due <= 2
        status = world.client.get(CRON_JOBS, "default/tick").status
        assert status.last_schedule_time and status.last_successful_time

    lived(story)


def test_forbid_waits_for_the_one_that_runs_and_replace_ends_it():
    async def story(world):
        await world.client.create(CRON_JOBS, cron(concurrencyPolicy="Forbid", job={"ends": ""}))
        await asyncio.sleep(200)
        assert len(jobs(world)) == 1
        first = jobs(world)[0].metadata.uid
        await world.client.patch(CRON_JOBS, "default/tick", {"spec": {"concurrencyPolicy": "Replace"}})
        await asyncio.sleep(70)
        assert [each.metadata.uid for each in jobs(world) if each.metadata.deletion_timestamp is None] != [first]
        assert len([each for each in jobs(world) if each.metadata.deletion_timestamp is None]) == 1

    lived(story)


def said_of_cron(world):
    return [(each.reason, each.message) for each in world.client.list("events") if each.involved_object.kind == "CronJob"]


def test_a_cronjob_says_how_its_jobs_ended():
    async def story(world):
        await world.client.create(CRON_JOBS, cron(job={"ends": "1 1", "backoffLimit": 0}))
        await asyncio.sleep(70)
        [made] = jobs(world)
        assert said_of_cron(world) == [
            ("SuccessfulCreate", f"Created job {made.metadata.name}"),
            ("SawCompletedJob", f"Saw completed job: {made.metadata.name}, condition: Failed"),
        ]

    lived(story)


def test_a_cronjob_says_that_somebody_deleted_a_job_of_its_and_not_that_it_did_itself():
    async def story(world):
        await world.client.create(CRON_JOBS, cron(concurrencyPolicy="Replace", successfulJobsHistoryLimit=0, job={"ends": ""}))
        await asyncio.sleep(130)
        assert "MissingJob" not in dict(said_of_cron(world))
        [made] = jobs(world)
        await world.client.delete(JOBS, made.metadata.key)
        await asyncio.sleep(5)
        assert said_of_cron(world).count(("MissingJob", f"Active job went missing: {made.metadata.name}")) == 1
        assert not world.client.get(CRON_JOBS, "default/tick").status.active

    lived(story)


@pytest.mark.parametrize("policy", ["Forbid", "Replace"])
def test_a_job_that_a_person_makes_from_a_cronjob_is_beside_its_own(policy):
    async def story(world):
        made = await world.client.create(CRON_JOBS, cron(concurrencyPolicy=policy))
        owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": made.metadata.uid, "controller": True}
        mine = job("mine", ends="")
        mine["metadata"] |= {"ownerReferences": [owner], "annotations": {"cronjob.kubernetes.io/instantiate": "manual"}}
        await world.client.create(JOBS, mine)
        await asyncio.sleep(70)
        assert sorted(each.metadata.name[:4] for each in jobs(world)) == ["mine", "tick"] and not of(world, "mine").finished
        assert ("UnexpectedJob", "Saw a job that the controller did not create or forgot: mine") in said_of_cron(world)
        assert "mine" not in {each.name for each in world.client.get(CRON_JOBS, "default/tick").status.active}

    lived(story)


def test_suspended_cronjobs_make_none_and_what_was_missed_is_made_once():
    async def story(world):
        await world.client.create(CRON_JOBS, cron(suspend=True))
        await asyncio.sleep(300)
        assert not jobs(world)
        await world.client.patch(CRON_JOBS, "default/tick", {"spec": {"suspend": False}})
        await asyncio.sleep(1)
        assert len(jobs(world)) == 1

    lived(story)


@pytest.mark.parametrize(
    ("missed", "deadline_s", "told"),
    [(100, None, False), (101, None, True), (101, 300, False)],
)
def test_a_cronjob_that_missed_more_than_100_times_says_so_and_makes_the_last_one(missed, deadline_s, told):
    async def story(world):
        deadline = {} if deadline_s is None else {"startingDeadlineSeconds": deadline_s}
        await world.client.create(CRON_JOBS, cron(suspend=True, **deadline))
        last = world.clock.wall() // 60 * 60 - missed * 60
        await world.client.patch(CRON_JOBS, "default/tick", {"status": {"lastScheduleTime": rfc3339(last)}}, "status")
        await world.client.patch(CRON_JOBS, "default/tick", {"spec": {"suspend": False}})
        await asyncio.sleep(1)
        assert len(jobs(world)) == 1
        message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        assert (("TooManyMissedTimes", message) in said_of_cron(world)) == told

    lived(story)


def test_what_was_missed_longer_ago_than_the_deadline_is_not_made():
    async def story(world):
        await world.client.create(CRON_JOBS, cron("0 0 1 1 *", suspend=True, startingDeadlineSeconds=10))
        await world.client.patch(CRON_JOBS, "default/tick", {"status": {"lastScheduleTime": rfc3339(1)}}, "status")
        await world.client.patch(CRON_JOBS, "default/tick", {"spec": {"suspend": False}})
        await asyncio.sleep(30)
        assert not jobs(world)

    lived(story)


def test_a_pod_that_is_taken_from_its_job_waits_for_nobody():
    async def story(world):
        await world.client.create(JOBS, job("work", ends="", parallelism=2, completions=2))
        await until(world, lambda: len([p for p in pods(world) if p.status.phase == "Running"]) == 2)
        for pod, labels in zip(pods(world), (None, {"batch.kubernetes.io/controller-uid": None}), strict=True):
            await world.client.patch("pods", pod.metadata.key, {"metadata": {"labels": labels, "ownerReferences": None}})
        taken = {pod.metadata.uid for pod in pods(world)}
        await until(world, lambda: not any(p.metadata.finalizers or p.metadata.controller for p in pods(world) if p.metadata.uid in taken))

    lived(story)
