"""Every labctl command line that we show to people is one that labctl takes: in help texts, in documents, in the CI examples."""

import ast
import re
from pathlib import Path

import click
import pytest
import yaml

from labctl.cli.main import COMMANDS, EPILOG, labctl
from labctl.lab.settings import BY_NAME
from tests.cli.commands import check, in_script, variables

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
WORKFLOWS = sorted((ROOT / "examples" / "ci").glob("*.yml"))


def commands_below(group, path=()):
    """Every command, groups' members included, with its words."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands_below(command, (*path, name))


ALL = dict(commands_below(labctl))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_each_commands_example_is_valid_and_shows_that_command(path, tmp_path):
    epilog = ALL[path].epilog or ""
    examples = list(in_script(re.sub(r"^\s*Examples?:\s*", "", epilog.replace("\b", ""))))
    assert examples, f"labctl {' '.join(path)} --help shows no example"
    assert any(words[1 : 1 + len(path)] == list(path) for words in examples)
    for words in examples:
        check(words, tmp_path)


def test_the_first_helps_examples_are_valid(tmp_path):
    lines = [re.split(r"\s{3,}", line.strip())[0] for line in EPILOG.splitlines() if line.startswith("  ")]
    for words in in_script("\n".join(lines)):
        check(words, tmp_path)


def shown(text):
    """The shell lines of a document: indented or fenced blocks, and `code` in sentences and tables that begins with labctl."""
    pictures = [block for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE) if re.search("[└├│]", block)]
    for line in text.splitlines():
        if any(line in picture.splitlines() for picture in pictures):
            continue
        if re.match(r"^(    |\$ )\s*(\w+=\S+ )*(labctl|export|pip|vagrant|ssh)\b", line):
            yield re.split(r"\s{3,}", line.strip().removeprefix("$ "))[0]  # what stands apart is a remark
    for code in re.findall(r"`([^`\n]+)`", text):
        yield from ["" if re.search(r"[A-Z]{3,}/|\.\.\.", code) else code] if re.match(r"(export \S+; )?labctl ", code) else []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_show_valid_commands(path, tmp_path):
    for line in shown(path.read_text()):
        for words in in_script(line):
            if any("|" in word or re.fullmatch(r"[A-Z]+|\[.*", word) for word in words):
                continue  # a pattern for people: NAME, save|list
            try:
                check(words, tmp_path)
            except (click.MissingParameter, click.exceptions.NoArgsIsHelpError, click.exceptions.Exit):
                pass  # spoken of, not typed; or a call for help


def scripts(node):
    """Each shell script of a workflow: GitHub's `run`, GitLab's `script` lists."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "run":
                yield value
            elif key in ("script", "before_script", "after_script"):
                yield "\n".join(value)
            else:
                yield from scripts(value)
    elif isinstance(node, list):
        for value in node:
            yield from scripts(value)


def advised():
    """Each `labctl WORD --option` in the strings of our own code: what errors tell people to type."""
    for path in sorted((ROOT / "labctl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for words in re.findall(r"\blabctl ([a-z]+(?: -{0,2}[a-zA-Z0-9-]+)*)", node.value):
                    yield path.relative_to(ROOT), words.split()


def test_what_our_errors_tell_people_to_type_is_there():
    for path, words in advised():
        command, found = labctl, []
        while words and isinstance(command, click.Group) and words[0] in command.list_commands(click.Context(command)):
            command = command.get_command(click.Context(command), words.pop(0))
            found = [option for parameter in command.params for option in parameter.opts]
        if command is not labctl:
            unknown = [word for word in words if word.startswith("--") and word not in found and word != "--"]
            assert not unknown, f"{path} speaks of labctl {command.name} {' '.join(unknown)}"


def test_every_fixed_choice_of_a_setting_is_in_its_flags_help():
    """`--network` names each network, `--provider` each provider."""
    for option in labctl.get_command(click.Context(labctl), "up").params:
        setting = BY_NAME.get(option.name)
        if setting is None:
            continue
        try:
            setting.parse("no such thing")
        except ValueError as error:
            choices = str(error).removeprefix("write one of ").split(", ") if str(error).startswith("write one of ") else []
            assert not [choice for choice in choices if choice not in option.help], option.name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_ci_examples_call_labctl_rightly(path, tmp_path):
    workflow = yaml.safe_load(path.read_text())
    found = [words for script in scripts(workflow) for words in in_script(script)]
    assert {words[1] for words in found} >= {"doctor", "smoke"}
    for words in found:
        check(words, tmp_path)
    unknown = set(re.findall(r"\b(?:LABCTL|MINION|NUM)_[A-Z_]+", path.read_text())) - variables()
    assert not unknown


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_ci_examples_publish_what_smoke_writes(path):
    text = path.read_text()
    (smoke,) = [words for script in scripts(yaml.safe_load(text)) for words in in_script(script) if words[1] == "smoke"]
    junit = smoke[smoke.index("--junit") + 1]
    assert junit.startswith("out/") and smoke[smoke.index("--artifacts") + 1].startswith("out/")
    assert "path: out" in text or "paths: [out]" in text


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("labctl upp", "No such command"),
        ("labctl up --minnions 3", "No such option"),
        ("labctl up --minions many", "whole number"),
        ("if x; then sudo env A=b labctl destroy --now; fi", "No such option"),
        ("export X=$(labctl kubeconfigg)", "No such command"),
        ("labctl fault power-of minion-1", "power-of"),
    ],
)
def test_a_wrong_command_line_is_found(line, complaint, tmp_path):
    """The checker itself can fail."""
    (words,) = in_script(line)
    with pytest.raises(Exception, match=complaint):
        check(words, tmp_path)


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in COMMANDS if not re.search(rf"\b{name}\b", readme)]
