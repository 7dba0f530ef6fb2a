"""Trees that a container made are removed: whatever is in them, within little memory, and without keeping anybody else from work."""

import asyncio
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from labctl.agent import trees

NAME = b"n" * 200


def many(folder, count):
    os.makedirs(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    for number in range(count):
        os.close(os.open(NAME + str(number).encode(), os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def test_a_folder_with_many_files_costs_no_memory(tmp_path):
    many(tmp_path / "v" / "d", 20_000)
    tracemalloc.start()
    try:
        trees.remove_tree(str(tmp_path / "v"))
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "v").exists()
    assert most_bytes < 1 << 20, "the names of a folder must not be held together"


@pytest.mark.parametrize("levels", [3, trees.SHALLOW, trees.SHALLOW + 1, 3000])
def test_a_tree_of_any_depth_is_removed(tmp_path, levels):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    trees.remove_tree(str(tmp_path / "d"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("beside", [0, trees.FEW + 1])
def test_what_lies_outside_stays_and_names_mean_nothing(tmp_path, beside):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    tree = os.fsencode(tmp_path / "tree")
    many(tree + b"/many", beside)
    os.symlink(outside, tree + b"/link")
    os.link(outside / "kept", tree + b"/hard")
    os.mkfifo(tree + b"/pipe")
    for name in (b"-rf", b"a\nb", b"\xff\xfe", b" ", b"*"):
        os.mkdir(tree + b"/" + name)
        os.symlink(b"/", tree + b"/" + name + b"/root")
    trees.remove_tree(os.fsdecode(tree))
    assert os.listdir(tmp_path) == ["outside"] and (outside / "kept").read_text() == "kept"
    os.symlink(outside, tree)
    trees.remove_tree(os.fsdecode(tree))
    trees.remove_tree(os.fsdecode(tree))
    assert os.listdir(tmp_path) == ["outside"] and os.listdir(outside) == ["kept"], "a link itself, and then nothing"


async def test_large_trees_keep_nobody_from_work(tmp_path, monkeypatch):
    """Three removals are under way, and the only thread is free."""
    os.mkfifo(tmp_path / "go")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "rm").write_text(f'#!/bin/sh\nread word < {tmp_path}/go\nexec /bin/rm "$@"\n')
    (tools / "rm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    folders = [str(tmp_path / f"v{number}") for number in range(3)]
    for folder in folders:
        many(folder, trees.FEW + 1)
    removals = [asyncio.ensure_future(trees.remove_trees(folder)) for folder in folders]
    descriptors = [await asyncio.wait_for(loop.run_in_executor(None, lambda: os.open(tmp_path / "go", os.O_RDWR)), 10) for _ in folders]
    assert not any(removal.done() for removal in removals)
    os.write(descriptors[0], b"1\n2\n3\n")
    await asyncio.wait_for(asyncio.gather(*removals), 20)
    assert sorted(os.listdir(tmp_path)) == ["go", "tools"]
    for descriptor in descriptors:
        os.close(descriptor)
