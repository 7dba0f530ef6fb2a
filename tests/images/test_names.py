from __future__ import annotations

import pytest

from labctl.errors import ApiError
from labctl.images.names import canonical, check_platform, parse, platform_of

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.22", "docker.io/library/nginx:1.22"),
        ("library/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("someone/tool", "docker.io/someone/tool:latest"),
        ("registry.example/tool:v1", "registry.example/tool:v1"),
        ("localhost/tool", "localhost/tool:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1.22@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
    ],
)
def test_names_that_mean_the_same_have_one_spelling(written: str, meant: str) -> None:
    assert canonical(written) == meant
    assert canonical(meant) == meant


@pytest.mark.parametrize(
    "wrong", ["", "Nginx", "nginx:", ":latest", "nginx:a b", "nginx@sha256:12", "nginx@", "a//b", "-x", "nginx:../x", "http://nginx"]
)
def test_what_is_no_name_is_said_as_a_kubelet_says_it(wrong: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse(wrong)
    assert raised.value.reason == "InvalidImageName"
    assert raised.value.message.startswith(f'Failed to apply default image tag "{wrong}": couldn\'t parse image reference')


@pytest.mark.parametrize("written", ["nginx:latest", "someone/tool:v1", "localhost:5000/a:b", f"nginx@{DIGEST}"])
def test_the_short_form_is_what_people_write(written: str) -> None:
    assert parse(written).short == written


def test_platforms_leave_out_the_only_variant_of_arm64() -> None:
    assert platform_of("linux", "arm64", "v8") == "linux/arm64"
    assert platform_of("linux", "arm", "v7") == "linux/arm/v7"


@pytest.mark.parametrize("wrong", ["", "linux", "linux/", "linux/amd64/v1/x", "--help/x", "linux/amd 64"])
def test_what_is_no_platform_is_refused(wrong: str) -> None:
    check_platform("linux/arm/v7")
    with pytest.raises(ApiError) as raised:
        check_platform(wrong)
    assert raised.value.code == 400
