"""The command `image` with its subcommands build, load, save, list and remove."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from labctl.cli.lifecycle import become_root, showing
from labctl.cli.output import output_option, print_json, print_table
from labctl.lab import Lab


@click.group(epilog="Example: labctl image build nginx")
def image() -> None:
    """Manage the container images of this machine's labs. `image: NAME` in a pod is looked up here first, then in a registry."""


@contextmanager
def _store() -> Iterator[Lab]:
    """Yield the lab whose image store is meant: root's store where `up` would make machines as root, else the person's own."""
    with showing() as lab:
        become_root(lab, if_possible=True)
        yield lab


@image.command("build", epilog="Example: labctl image build nginx")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@output_option
def build(names: tuple[str, ...], output: str) -> None:
    """Build images from Debian packages, without a registry: nginx, busybox, python, serve-hostname."""
    from labctl.lab import images

    with _store() as lab:
        _show([images.build(lab, name) for name in names], output)


@image.command("load", epilog="Example: docker save web:1 > web.tar && labctl image load web.tar")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--name", default="", help="the name for an image that has none in its archive")
@output_option
def load(path: Path, name: str, output: str) -> None:
    """Load images from an OCI archive or folder, or from the output of `docker save`."""
    from labctl.lab import images

    with _store() as lab:
        _show(images.load(lab, path, name), output)


@image.command("save", epilog="Example: labctl image save nginx -f nginx.tar")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--file", "path", type=click.Path(path_type=Path), required=True, help="the OCI archive to write")
@output_option
def save(names: tuple[str, ...], path: Path, output: str) -> None:
    """Write images into one OCI archive."""
    from labctl.lab import images

    with _store() as lab:
        _show(images.save(lab, names, path), output)


@image.command("list", epilog="Example: labctl image list -o json")
@output_option
def list_(output: str) -> None:
    """List the images of this machine."""
    from labctl.lab import images

    with _store() as lab:
        _show(images.images(lab).list(), output)


@image.command("remove", epilog="Example: labctl image remove nginx")
@click.argument("name")
def remove(name: str) -> None:
    """Delete a name, and the blobs that no other image uses."""
    from labctl.lab import images

    with _store() as lab:
        images.remove(lab, name)


def _show(found: Any, output: str) -> None:
    if output == "json":
        print_json([{"name": i.name, "platform": i.platform, "digest": i.digest, "size": i.size, "origin": i.origin} for i in found])
        return
    rows = [(i.name, i.platform, i.digest[7:19], f"{i.size / 1e6:.1f} MB", i.origin) for i in found]
    print_table(("NAME", "PLATFORM", "DIGEST", "SIZE", "ORIGIN"), rows)
