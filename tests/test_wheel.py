"""The wheel takes along what labctl reads beside its own code. Whoever adds a file of another sort, or a folder, sees it here and not after an install."""

import ast
import fnmatch
import tomllib
from pathlib import Path

from labctl import assets

ROOT = Path(__file__).parents[1]


def test_every_folder_that_labctl_reads_is_packed():
    names = next(
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ASSETS"
    )
    read = [assets.template("x"), assets.provision("x"), assets.seed("x"), assets.experiments(), assets.root() / "Vagrantfile"]
    for path in read:
        inside = path.relative_to(assets.root()).as_posix()
        assert any(inside == name or inside.startswith(f"{name}/") for name in names), f"setup.py does not pack {inside}"
    assert all((ROOT / name).exists() for name in names)


def test_every_file_of_the_package_is_packed():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["labctl"]
    files = [path for path in (ROOT / "labctl").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) > 500
    for path in files:
        if path.suffix != ".py":
            assert any(fnmatch.fnmatch(path.name, pattern.removeprefix("**/")) for pattern in patterns), (
                f"pyproject.toml does not pack {path}"
            )
        else:
            assert (path.parent / "__init__.py").exists(), f"{path.parent} is no package, so setuptools leaves it out"
