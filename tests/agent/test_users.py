"""The user of a container, out of files that the image wrote."""

from pathlib import Path

import pytest

from labctl.agent import users


@pytest.mark.parametrize("number", ["²", "9" * 5000, "٣", "-1", "", "1x"])
def test_an_entry_whose_number_is_none_is_no_entry(tmp_path: Path, number: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(f"odd:x:{number}:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text(f"odd:x:{number}:web\nmail:x:8:web\n")
    found = users.resolve({}, {}, "web", [str(tmp_path)])
    assert (found.uid, found.gid, tuple(found.groups)) == (33, 33, (8,))
    with pytest.raises(users.ConfigError, match="unable to find user odd"):
        users.resolve({}, {}, "odd", [str(tmp_path)])
    assert "non-numeric user" in users.may_be_root({}, {}, number) or number == ""
