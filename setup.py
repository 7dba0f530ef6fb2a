"""Packs what lies beside the package (templates/, provision/, examples/seed/, examples/experiments/, Vagrantfile) into the wheel as labctl/_assets/; see labctl/assets.py."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ASSETS = ("templates", "provision", "examples/seed", "examples/experiments", "Vagrantfile")


class BuildWithAssets(build_py):
    """build_py, then the assets. An editable install reads them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "labctl" / "_assets"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in ASSETS:
            source = Path(__file__).parent / name
            if source.is_dir():
                shutil.copytree(source, target / name)
            elif source.exists():
                shutil.copy(source, target / name)


setup(cmdclass={"build_py": BuildWithAssets})
