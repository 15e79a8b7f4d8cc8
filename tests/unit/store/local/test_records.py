import os
import stat
from pathlib import Path

import pytest

from campaign_gateway.store.local import records
from campaign_gateway.store.local.records import DamagedError, frame, unframe

KIND = b"kind 1\n"
RECORDS = [b"", b"one", b"two" * 100]
WHOLE = KIND + b"".join(map(frame, RECORDS))


def test_records_come_back_in_their_order():
    assert unframe(WHOLE, KIND) == (RECORDS, len(WHOLE))


def test_a_record_that_was_cut_off_was_never_written():
    last = len(WHOLE) - len(frame(RECORDS[-1]))
    for end in range(last, len(WHOLE)):
        assert unframe(WHOLE[:end], KIND) == (RECORDS[:-1], last)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(KIND, id="without-a-record"),
        pytest.param(KIND + frame(b"one")[:-1], id="with-a-part-of-one"),
        pytest.param(b"kind 2\n" + frame(b"one"), id="of-another-version"),
        pytest.param(KIND + b"\xff" * 8, id="with-a-length-that-cannot-be"),
        pytest.param(KIND + frame(b"one") + b"\x00" * 3 + b"\x01" + b"\x00" * 5, id="with-nothing-at-its-end"),
    ],
)
def test_what_is_something_else_is_damaged(content):
    with pytest.raises(DamagedError):
        unframe(content, KIND)


def test_no_byte_can_turn_over_unseen():
    for position in range(len(WHOLE)):
        turned = bytearray(WHOLE)
        turned[position] ^= 0x10
        try:
            found, end = unframe(bytes(turned), KIND)
        except DamagedError:
            continue
        # A longer length looks like a cut: then less is believed, and nothing else.
        assert (found, end) != (RECORDS, len(WHOLE))
        assert found == RECORDS[: len(found)]


def made(path: Path, *contents: bytes) -> int:
    descriptor = records.write_beside(path, KIND, contents)
    records.put_in_place(path)
    return descriptor


def test_a_file_is_whole_from_the_moment_it_has_its_name_and_for_nobody_else(tmp_path: Path):
    path = tmp_path / "file"
    descriptor = records.write_beside(path, KIND, [b"one"])
    assert not path.exists()
    records.put_in_place(path)
    assert unframe(path.read_bytes(), KIND)[0] == [b"one"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    records.append(descriptor, b"two")
    os.close(descriptor)
    assert unframe(path.read_bytes(), KIND)[0] == [b"one", b"two"]


def test_what_is_appended_follows_what_is_there(tmp_path: Path):
    path = tmp_path / "file"
    os.close(made(path, b"one"))
    descriptor = records.open_to_append(path)
    records.append(descriptor, b"two")
    os.close(descriptor)
    assert unframe(path.read_bytes(), KIND)[0] == [b"one", b"two"]


def test_a_file_that_cannot_grow_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever reads it must not take it for complete."""
    path = tmp_path / "file"
    descriptor = made(path, b"one")
    write = os.write
    monkeypatch.setattr(os, "write", lambda where, data: write(where, data[:4]))
    with pytest.raises(OSError, match="space"):
        records.append(descriptor, b"two")
    os.close(descriptor)
    assert path.read_bytes() == b""


def test_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "file.new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        records.write_beside(tmp_path / "file", KIND, [])
    assert not (tmp_path / "elsewhere").exists()
