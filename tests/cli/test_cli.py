"""The command line as a person meets it: help, unknown words, no lab, bad input; always one clear line and a status."""

import io
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from labctl.cli.main import COMMANDS, VERBS, main


def labctl(*arguments, cwd, **environment):
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LABCTL_STATE_HOME": str(cwd / "state"), **environment}
    return subprocess.run(
        [sys.executable, "-m", "labctl", *arguments], cwd=cwd, env=env, text=True, capture_output=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, tmp_path):
    answer = labctl(command, "--help", cwd=tmp_path)
    assert answer.returncode == 0 and "Example" in answer.stdout


def test_help_imports_nothing_heavy(tmp_path):
    code = "import sys; from labctl.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules), file=sys.stderr)"
    answer = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    for heavy in ("aiohttp", "paramiko", "fabric", "jinja2", "yaml", "rich", "msgspec", "cryptography", "ssl"):
        assert f"'{heavy}'" not in answer.stderr, f"--help imports {heavy}"


def test_our_words_and_kubectls_never_meet():
    assert not set(COMMANDS) & VERBS


def test_kubectls_words_are_all_handed_over(tmp_path):
    from labctl.lab.kubectl import find_kubectl

    said = subprocess.run([find_kubectl(), "--help"], text=True, capture_output=True).stdout
    theirs = {
        line.split()[0] for line in said.splitlines() if line.startswith("  ") and not line.startswith("   ") and len(line.split()) > 1
    }
    theirs -= {"kubectl", "completion", "config", "version", "options", "certificate", "alpha"}
    assert {word for word in theirs if word.isalpha() and word.islower()} <= VERBS


def test_kubectl_gets_every_word_as_it_was_typed(tmp_path):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    kubectl.chmod(0o755)
    words = ["exec", "web", "-it", "--", "wget", "-q", "--help", "--", "-h"]
    answer = labctl(*words, cwd=tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}", KUBECONFIG="none")
    assert answer.stdout.splitlines() == words, answer.stderr


@pytest.mark.parametrize("command", [("status",), ("halt",), ("destroy", "--yes"), ("get", "pods"), ("kubeconfig",), ("why", "pod/x")])
def test_without_a_lab_it_says_so(command, tmp_path):
    answer = labctl(*command, cwd=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.strip() == f"labctl: there is no lab in {tmp_path} or above: labctl up"


def test_an_unknown_word_is_a_usage_error(tmp_path):
    answer = labctl("upp", cwd=tmp_path)
    assert answer.returncode == 2 and "No such command 'upp'" in answer.stderr


def test_a_typo_in_lab_yml_stops_up_before_it_begins(tmp_path):
    (tmp_path / "lab.yml").write_text("minnions: 3\n")
    answer = labctl("up", cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.strip() == "labctl: lab.yml line 1: unknown setting `minnions`: did you mean `minions`?"
    assert not (tmp_path / ".labctl").exists()


def test_an_up_that_failed_before_it_began_leaves_nothing(tmp_path):
    answer = labctl("up", "--provider", "ssh", cwd=tmp_path)
    assert answer.returncode == 1 and "lab.yml names no machines" in answer.stderr
    assert not (tmp_path / ".labctl").exists()


def test_a_folder_that_holds_no_lab_does_not_capture_those_below_it(tmp_path):
    (tmp_path / ".labctl").mkdir()
    below = tmp_path / "mine"
    below.mkdir()
    answer = labctl("status", cwd=below)
    assert answer.stderr.strip() == f"labctl: there is no lab in {below} or above: labctl up"


def test_a_file_that_is_no_image_is_refused_in_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    last = labctl("image", "load", "notes.txt", cwd=tmp_path, LABCTL_CACHE_HOME=str(tmp_path / "c")).stderr.strip().splitlines()[-1]
    assert last.startswith("labctl: notes.txt is no image archive: ") and last.endswith("or what `docker save` wrote")


def test_a_bad_flag_is_named(tmp_path):
    answer = labctl("up", "--minions", "-1", cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.strip() == "labctl: flag --minions: minions can't be '-1': write a whole number from 0 to 200"


def test_config_tells_where_each_value_came_from(tmp_path):
    (tmp_path / "lab.yml").write_text("memory: 2G\n")
    answer = json.loads(labctl("config", "-o", "json", cwd=tmp_path, NUM_MINIONS="5").stdout)
    assert answer["minions"]["source"] == "environment NUM_MINIONS" and answer["minions"]["value"] == 5
    assert answer["memory"]["source"] == "lab.yml line 1"
    assert answer["cpus"]["source"] == "default"


def test_completion_is_a_script(tmp_path):
    assert "_LABCTL_COMPLETE" in labctl("completion", "bash", cwd=tmp_path).stdout


@pytest.fixture
def offered(tmp_path):
    """What Tab offers after these words, in a lab's folder whose master does not run, with a kubectl of the test's own."""
    lab = tmp_path / ".labctl"
    lab.mkdir()
    (lab / "lab.json").write_text(json.dumps({"id": "lab-x", "state": str(tmp_path / "s"), "cache": str(tmp_path / "c"), "kept": {}}))
    (lab / "kubeconfig").write_text("")
    (lab / "ssh_config").write_text("Host minion-1\n  HostName x\nHost minion-2\n  HostName y\n")
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text('#!/bin/sh\n[ -n "$KUBECONFIG" ] || exit 1\nshift; printf "%s|" "$@"; printf "\\tabout\\nnodes\\n:4\\n"\n')
    kubectl.chmod(0o755)

    def ask(*words):
        line = " ".join(("labctl", *words))
        environment = {"_LABCTL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        path = f"{kubectl.parent}:{os.environ['PATH']}"
        answer = labctl(cwd=tmp_path, **environment, PATH=path)
        assert answer.stderr == ""
        return [item.partition(",")[2] for item in answer.stdout.splitlines()]

    return ask


def test_tab_offers_minions(offered):
    assert offered("ssh", "min") == ["minion-1", "minion-2"]
    assert offered("fault", "power-off", "minion-2") == ["minion-2"]
    assert offered("halt", "minion-1", "m") == ["minion-2"]


def test_tab_offers_what_kubectl_offers(offered):
    assert offered("get", "po", "n") == ["get|po|n|", "nodes"]
    assert offered("why", "po") == ["pod/"]
    assert offered("why", "pod/we") == ["pod/get|--namespace|default|pod|we|", "pod/nodes"]


def test_tab_says_nothing_where_there_is_no_lab(tmp_path):
    environment = {"_LABCTL_COMPLETE": "bash_complete", "COMP_WORDS": "labctl ssh m", "COMP_CWORD": "2"}
    answer = labctl(cwd=tmp_path, **environment)
    assert (answer.stdout.strip(), answer.stderr) == ("", "")


def test_an_end_by_a_fault_in_c_code_says_where_it_was() -> None:
    fault = "import os, signal, click; click.Group.invoke = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)"
    code = f"{fault}; from labctl.cli.main import main; main(['version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGSEGV and "Fatal Python error: Segmentation fault" in done.stderr


def test_it_works_without_a_standard_error_stream() -> None:
    code = "import os, sys; os.close(2); os.execv(sys.executable, [sys.executable, '-m', 'labctl', 'version'])"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("labctl ")


def test_it_may_be_called_where_standard_error_is_no_file(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        main(["version"])
    assert ended.value.code == 0


@pytest.mark.parametrize(
    "words", [["config"], ["config", "-o", "json"], ["--help"], ["up", "--help"], ["--version"], ["completion", "bash"]]
)
def test_a_full_disk_behind_standard_output_is_one_line(words, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "labctl", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path
        )
    assert done.returncode == 1 and re.fullmatch("labctl: .*No space left on device\n", done.stderr)


def test_an_error_has_its_status_though_standard_error_is_full(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "labctl", "status"], stdout=full, stderr=full, check=False, cwd=tmp_path)
    assert done.returncode == 1


@pytest.mark.parametrize("where", ["full", "closed"])
def test_work_goes_on_when_nobody_takes_its_progress(where):
    """`labctl up 2>&1 | head -1` must not leave half a lab."""
    read, write = os.pipe()
    os.close(read)
    if where == "full":
        os.close(write)
        write = os.open("/dev/full", os.O_WRONLY)
    steps = "steps = Steps(); [steps(Step('a', state, 1.0, 'b')) for state in ('begun', 'note', 'done')]; steps.close()"
    ends = "from labctl.cli.words import let_go_what_nobody_takes; let_go_what_nobody_takes()"
    code = f"from labctl.cli.output import Steps; from labctl.lab.progress import Step; {steps}; print('worked'); {ends}"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stdout) == (0, "worked\n")


def test_a_current_folder_that_was_removed_is_one_line(tmp_path):
    (tmp_path / "gone").mkdir()
    script = f"cd gone && rmdir ../gone && exec {sys.executable} -m labctl status"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "labctl: the current folder was removed: cd to another one\n")


@pytest.mark.parametrize("module", ["click", "labctl.cli.look", "labctl.lab.lab"])
def test_an_interrupt_while_modules_are_imported_is_quiet(module, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\nclass Interrupt:\n    def find_spec(self, name, *_):\n        if name == '"
        + module
        + "':\n            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    words = [sys.executable, "-m", "labctl", "version" if module == "click" else "config"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    ignored = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert ignored.returncode == 0 and ignored.stdout, "as for a command in a shell's background"
