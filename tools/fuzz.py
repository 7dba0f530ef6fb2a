"""Coverage-guided fuzzing of what decodes clients' bytes: `pip install atheris`, then `python -m tools.fuzz [atheris' options]`.

    python -m tools.fuzz -max_total_time=300 -rss_limit_mb=1500 -timeout=5 FOLDER

The first byte chooses the decoder. An input that is neither taken nor refused in words, or that takes too long or too much memory, ends the run and is
written to a file. FOLDER keeps inputs from run to run. tests/api/test_fuzz.py tries the same decoders on each run of the tests, without coverage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import atheris

with atheris.instrument_imports(include=["labctl"]):
    from labctl.api import negotiate, protobuf, query
    from labctl.errors import ApiError
    from labctl.resources import documents, quantities, selectors
    from labctl.resources.patches import json as json_patch
    from labctl.resources.patches import merge, strategic
    from labctl.resources.schema.definitions import builtin_schema
    from labctl.resources.verbs import read

POD = builtin_schema().named("io.k8s.api.core.v1.Pod")


def _live() -> dict[str, Any]:
    return {"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}


def _json_patch(raw: bytes) -> None:
    patch = documents.parse(raw)
    if isinstance(patch, list):
        json_patch.apply(patch, _live())


DECODERS: list[Callable[[bytes], Any]] = [
    documents.parse,
    lambda raw: protobuf.decode(protobuf.MAGIC + raw),
    _json_patch,
    lambda raw: merge.apply(documents.parse(raw), _live()),
    lambda raw: strategic.apply(POD, documents.parse(raw), _live()),
    lambda raw: selectors.parse(raw.decode(errors="replace")),
    lambda raw: selectors.parse_fields(raw.decode(errors="replace")),
    lambda raw: negotiate.accepted(raw.decode(errors="replace")),
    lambda raw: query.list_options(query.parse(raw.decode(errors="replace"))),
    lambda raw: read._token(raw.decode(errors="replace")),
    lambda raw: quantities.canonical(raw.decode(errors="replace")),
]


def once(raw: bytes) -> None:
    """Gives one input to one decoder. Errors that clients are told are answers; every other one is a find."""
    if not raw:
        return
    try:
        DECODERS[raw[0] % len(DECODERS)](raw[1:])
    except ApiError as refused:
        assert 400 <= refused.code < 500, refused
    except ValueError:
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, once)
    atheris.Fuzz()
