from __future__ import annotations

import hashlib
import io

import pytest

from labctl.errors import LabctlError
from labctl.images.blobs import BlobStore


def test_a_blob_is_found_by_its_digest(blobs: BlobStore) -> None:
    digest = blobs.put(b"content")
    assert digest == f"sha256:{hashlib.sha256(b'content').hexdigest()}"
    assert blobs.path(digest).read_bytes() == b"content"
    assert blobs.put(b"content") == digest


def test_bytes_that_are_not_what_they_claim_are_not_kept(blobs: BlobStore) -> None:
    claimed = "sha256:" + "0" * 64
    with pytest.raises(LabctlError, match="damaged"):
        blobs.put_stream(io.BytesIO(b"other"), claimed)
    assert not blobs.has(claimed)
    assert [path.name for path in blobs.path(claimed).parent.iterdir()] == []


@pytest.mark.parametrize("wrong", ["", "sha256:12", "sha512:" + "0" * 64, "sha256:../../etc/passwd", "sha256:" + "0" * 64 + "/x"])
def test_only_a_digest_is_ever_a_path(blobs: BlobStore, wrong: str) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        blobs.path(wrong)


def test_clearing_up_keeps_what_is_referred_to(blobs: BlobStore) -> None:
    kept, gone = blobs.put(b"kept"), blobs.put(b"gone")
    assert blobs.remove_all_but({kept}) == len(b"gone")
    assert (blobs.has(kept), blobs.has(gone)) == (True, False)
