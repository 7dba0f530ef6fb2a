"""An experiment's file: what it means, and that whatever is wrong with it is said in one line with its field, before anything begins."""

import resource
import subprocess
import sys

import pytest

from labctl.errors import UsageError
from labctl.experiments.file import Refused, read
from tests.experiments.files import FAULTS, GOOD, WEB, written


def test_a_file_becomes_a_plan(tmp_path):
    found = read(written(tmp_path), FAULTS)
    (plan,) = found.plans
    assert plan.steady[0].service == "default/web" and plan.steady[0].endpoints == 2
    assert plan.load.target == "service/default/web" and plan.load.rate == 100
    assert [(step.name, step.at_s, step.fault, step.target) for step in plan.steps] == [("power-off-1", 1.0, "power-off", "minion-1")]
    assert [item["kind"] for item in plan.manifests] == ["Deployment", "Service"]
    assert found.repetitions == 3 and plan.duration_s == 4


WRONG = {
    "unknown figure": ("outage < 0.5 s", "outtage < 0.5 s", r"hypothesis\[0\]: unknown figure outtage: did you mean outage\?"),
    "no unit": ("outage < 0.5 s", "outage < 0.5", r"hypothesis\[0\]: outage < 0.5 has no unit: outage is a time, write `outage < 0.5 s`"),
    "wrong unit": ("outage < 0.5 s", "failed < 5 s", "failed is a count, write `failed < 5`"),
    "no threshold": ("outage < 0.5 s", "it is quick", "is no hypothesis: write a hypothesis as"),
    "unknown statistic": ("outage < 0.5 s", "typical of outage < 5 s", "unknown statistic typical"),
    "unknown fault": ("power-off,", "power-of,", r"timeline\[0\].fault: unknown fault power-of: did you mean power-off\?"),
    "no target": (", target: minion-1", "", r"timeline\[0\].target: a fault needs a target"),
    "unknown target": ("target: minion-1", "target: the first one", r"timeline\[0\].target: 'the first one' is no target: write minion-1"),
    "too few minions": ("target: minion-1", "target: minion-7", r"there is no minion-7: `lab` says minions: 2"),
    "a service that nothing makes": (
        "target: minion-1",
        "target: pod of wbe",
        r"no manifest .* makes service/default/wbe: did you mean service/default/web\?",
    ),
    "absent manifest": ("[web.yaml]", "[wob.yaml]", r"manifests\[0\]: there is no file 'wob.yaml' beside the experiment"),
    "a manifest elsewhere": ("[web.yaml]", "[../web.yaml]", "lies outside the folder"),
    "an absolute manifest": ("[web.yaml]", "[/etc/passwd]", "lies outside the folder"),
    "a time without unit": ("duration: 4s", "duration: '4'", "duration: write a time with its unit"),
    "a step after the end": ("at: 1s", "at: 9s", r"timeline\[0\].at: 9s is after the end"),
    "a rate without unit": ("rate: 100/s", "rate: '100'", "load.rate: write a rate such as 200/s"),
    "unknown field": ("duration: 4s", "duration: 4s\nduratoin: 5s", "unknown field `duratoin`: did you mean `duration`?"),
    "unknown field below": ("at: 1s,", "at: 1s, taget: x,", r"timeline\[0\]: unknown field `taget`: did you mean `target`?"),
    "missing field": ("duration: 4s\n", "", "`duration` is missing"),
    "no steady state": ("  - {service: web, endpoints: 2}", "  []", "steady: "),
    "half a condition": ("{service: web, endpoints: 2}", "{service: web}", "service and endpoints belong together"),
    "two conditions in one": ("{service: web, endpoints: 2}", "{service: web, endpoints: 2, nodes: 3}", "write one of"),
    "unused name": (
        "repetitions: 3",
        "repetitions: 3\nmatrix: {replicas: [1, 2]}",
        r"matrix.replicas: nothing uses it: write \$\{replicas\}",
    ),
    "unknown name": (
        "repetitions: 3",
        "repetitions: ${replicas}",
        r"repetitions: \$\{replicas\} is no name of the matrix: the file has no matrix",
    ),
    "many cells": ("repetitions: 3", "matrix: {a: [" + "x, " * 0 + ",".join(map(str, range(999))) + "]}", "more than 200 combinations"),
    "fault and action": ("fault: power-off", "fault: power-off, action: drain", "write either fault or action"),
    "repetitions": ("repetitions: 3", "repetitions: 0", "repetitions: write a whole number of at least 1$"),
    "repetitions in words": ("repetitions: 3", "repetitions: three", "repetitions: write a whole number$"),
    "unknown action": (
        "fault: power-off, target: minion-1",
        "action: scal, target: web",
        r"action: unknown action scal: did you mean scale\?",
    ),
    "no step": ("  - {at: 1s, fault: power-off, target: minion-1}", "  []", "timeline: it is empty: write at least one$"),
    "too high a rate": ("rate: 100/s", "rate: 2000000/s", "load.rate: write a rate of more than 0/s and at most 100000/s$"),
    "name": ("name: node-death", "name: ../../etc", "name: "),
    "no map": (GOOD, "- a\n- b\n", "an experiment is one map"),
    "no YAML": (GOOD, "name: [", "experiment.yaml line [12]: this is no YAML"),
    "empty": (GOOD, "", "an experiment is one map"),
    "source": ("[minion-2]", "[everywhere]", r"load.sources\[0\]: 'everywhere' is no source: write host"),
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_what_is_wrong_is_one_line(tmp_path, case):
    old, new, expected = WRONG[case]
    assert old in GOOD
    with pytest.raises(UsageError, match=expected.replace("?", r"\?").replace(r"\\?", r"\?")) as raised:
        read(written(tmp_path, GOOD.replace(old, new)), FAULTS)
    assert "\n" not in str(raised.value) and str(raised.value).startswith("experiment.yaml")
    assert raised.value.exit_status == 2


ONE = "  - {at: 1s, fault: power-off, target: minion-1}\n"


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            "fault: power-off",
            "at: 2s, fault: pause",
            r"minion-1 is off then: timeline\[0\] cuts its power from 1 s to the end, as it has no `for`",
        ),
        ("fault: power-off", "at: 1s, fault: power-off", "minion-1 is off then"),
        ("fault: power-off, for: 2s", "at: 2s, fault: cut", r"minion-1 is off then: timeline\[0\] cuts its power from 1 s to 3 s"),
        ("fault: power-off, for: 1s", "at: 3s, fault: cut", ""),
        ("fault: pause", "at: 2s, fault: pause", r"minion-1 has a pause then already: timeline\[0\] lasts from 1 s"),
        ("fault: pause", "at: 2s, fault: cut", ""),
        ("fault: cut, direction: in", "at: 2s, fault: cut, direction: out", ""),
        ("fault: cut, direction: in", "at: 2s, fault: cut", "has a cut then already"),
        ("fault: cut, peer: minion-2", "at: 2s, fault: cut, peer: master", ""),
        ("fault: reset", "at: 2s, fault: reset", ""),
    ],
)
def test_faults_that_contradict_each_other_are_refused(tmp_path, first, second, said):
    assert ONE.strip() in GOOD
    steps = f"  - {{at: 1s, {first}, target: minion-1}}\n  - {{{second}, target: minion-1}}"
    path = written(tmp_path, GOOD.replace(ONE.rstrip("\n"), steps))
    if not said:
        assert read(path, FAULTS)
        return
    with pytest.raises(Refused, match=said) as raised:
        read(path, FAULTS)
    assert "timeline[1].at: " in raised.value.problems[0]


def test_all_problems_are_said_at_once(tmp_path):
    text = GOOD.replace("0.5 s", "0.5").replace("power-off,", "magic,").replace("at: 1s", "at: 1")
    with pytest.raises(Refused) as raised:
        read(written(tmp_path, text), FAULTS)
    assert [line.split(": ")[1] for line in raised.value.problems] == ["timeline[0].at", "timeline[0].fault", "hypothesis[0]"]


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    path = written(tmp_path)
    (tmp_path / "web.yaml").unlink()
    (tmp_path / "web.yaml").symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="lies outside"):
        read(path, FAULTS)


def test_the_matrix_is_filled_in_with_its_types(tmp_path):
    text = GOOD.replace("endpoints: 2", "endpoints: '${replicas}'").replace("duration: 4s", "duration: ${timing.duration}") + (
        "matrix:\n  replicas: [1, 2]\n  timing: [{name: kubernetes, duration: 360s}, {name: lab, duration: 15s}]\n"
    )
    text = text.replace("lab: {minions: 2}", "lab: {minions: 2, timing: '${timing}'}")
    web = WEB.replace("replicas: 2", "replicas: ${replicas}") + "\n# ${HOME} stays\n"
    found = read(written(tmp_path, text, web), FAULTS)
    assert [plan.cell for plan in found.plans] == [{"replicas": r, "timing": t} for r in ("1", "2") for t in ("kubernetes", "lab")]
    assert [(p.steady[0].endpoints, p.duration_s, p.manifests[0]["spec"]["replicas"], p.settings["timing"]) for p in found.plans] == [
        (1, 360, 1, "kubernetes"),
        (1, 15, 1, "lab"),
        (2, 360, 2, "kubernetes"),
        (2, 15, 2, "lab"),
    ]


def test_a_hypothesis_can_be_about_some_cells(tmp_path):
    text = GOOD.replace("  - outage < 0.5 s", "  - {threshold: outage < 1 s, when: {replicas: 2}}").replace("100/s", "'${replicas}/s'")
    found = read(written(tmp_path, text + "matrix: {replicas: [1, 2]}\n"), FAULTS)
    assert [len(plan.hypotheses) for plan in found.plans] == [0, 1]


def test_the_digest_follows_the_file_and_its_manifests(tmp_path):
    first = read(written(tmp_path), FAULTS).digest
    assert read(written(tmp_path), FAULTS).digest == first
    assert read(written(tmp_path, web=WEB.replace("replicas: 2", "replicas: 3")), FAULTS).digest != first
    assert read(written(tmp_path, GOOD + "seed: 9\n"), FAULTS).digest != first


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
)
DEEP = "a: " + "[" * 5000 + "]" * 5000
LOOP = "&a {name: *a}"


LONG = f"matrix:\n  x: ['{'A' * 450_000}']\n"
PLACES = "'" + "${x}" * 100_000 + "'"
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: "
MANY = "\n".join(f"  {name}: &{name} [{','.join([of] * 10)}]" for name, of in zip("abcd", ["x", "*a", "*b", "*c"], strict=True))


@pytest.mark.parametrize(
    ("text", "web", "said"),
    [
        (f"{GOOD}{LONG}description: {PLACES}\n", WEB, "description: with every"),
        (f"{GOOD}{LONG}", f"{WEB}---\n{MAP}{{a: {PLACES}}}\n", "manifests[0]: with every"),
        (
            GOOD.replace("repetitions: 3", "repetitions: ${x}") + f"matrix:\n  x: {list(range(1, 200))}\n",
            f"{WEB}---\n{MAP}\n{MANY}\n",
            "manifests[0]: with every",
        ),
        (GOOD, f"{WEB}---\n" + f"{MAP}\n{MANY}\n---\n" * 2000, "its documents stand for more than 100000 values"),
    ],
    ids=["a long text in many places", "in a manifest", "many cells of a large manifest", "many documents"],
)
def test_what_is_filled_in_has_a_bound(tmp_path, text, web, said):
    """Files of a megabyte would stand for 45 GB."""
    path = written(tmp_path, text, web)
    program = """
import sys
from pathlib import Path
from labctl.errors import UsageError
from labctl.experiments.file import read
from tests.experiments.files import FAULTS
try:
    read(Path(sys.argv[1]), FAULTS)
except UsageError as error:
    print(error)
"""

    def bounded():
        resource.setrlimit(resource.RLIMIT_AS, (1500 << 20, 1500 << 20))

    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, preexec_fn=bounded)
    assert said in done.stdout and len(done.stdout) < 1000, done.stderr[-500:]


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        DEEP,
        LOOP,
        "x: " + "9" * 900_000,
        "x: 1" + ":59" * 300_000,
        "? " * 3000,
        "\0",
        "&a [*a]",
        "name: !!python/object:os.system x",
        "name: !!bool x",
        "name: !!int ''",
        "name: !!timestamp x",
        "name: !!binary x",
        "name: !!float x",
    ],
)
def test_hostile_yaml_costs_little_and_is_one_line(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    program = """
import sys
from pathlib import Path
from labctl.errors import UsageError
from labctl.experiments.file import read
try:
    read(Path(sys.argv[1]), ())
except UsageError as error:
    print(len(str(error).splitlines()), "line")
"""

    def bounded():
        resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))

    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "x.yaml"], capture_output=True, text=True, timeout=20, preexec_fn=bounded
    )
    assert done.stdout == "1 line\n", done.stderr[-500:]
