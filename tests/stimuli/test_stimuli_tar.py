import io
import tarfile

import numpy as np
import pytest
from tars import pack

from repalign.stimuli.tar import BLOCK, DamagedTarError, list_members, read_members

LONG = "d" * 90 + "/" + "e" * 90 + ".png"
MEMBERS = {"a.png": b"x" * 700, "b/c.txt": b"", LONG: b"y" * 512, "ünï.png": b"z"}


def everything(_):
    return True


def png_only(name):
    return name.endswith(".png")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(tmp_path, form):
    path = pack(tmp_path / "a.tar", MEMBERS, form)
    with tarfile.open(path) as archive:
        expected = [(m.name, m.offset_data, m.size) for m in archive]
    with path.open("rb") as file:
        found = list(list_members(file, png_only))
        for member in found:
            file.seek(member.offset)
            assert file.read(member.size) == MEMBERS[member.name]
    assert [(m.name, m.offset, m.size) for m in found] == expected
    assert [m.data for m in found] == [data if png_only(name) else None for name, data in MEMBERS.items()]
    assert list(read_members(io.BytesIO(path.read_bytes()).read, png_only)) == found


def test_what_is_no_regular_file_is_passed_over(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"other{kind.decode()}")
            info.type, info.linkname = kind, "a.png"
            archive.addfile(info)
        info = tarfile.TarInfo("a.png")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    with (tmp_path / "a.tar").open("rb") as file:
        assert [(m.name, m.data) for m in list_members(file, everything)] == [("a.png", b"abc")]


def test_sizes_beyond_eight_gigabytes_are_read_in_both_ways(tmp_path):
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("a.png")
        info.size = 9 << 30
        head = info.tobuf(form)
        with (tmp_path / "a.tar").open("wb") as file:
            file.write(head)
            file.truncate(len(head) + info.size + 2 * BLOCK)  # a hole on disk
        with (tmp_path / "a.tar").open("rb") as file:
            assert [(m.offset, m.size) for m in list_members(file, lambda _: False)] == [(len(head), 9 << 30)]


def whole(tmp_path):
    return pack(tmp_path / "a.tar", {f"{k}.png": bytes([k + 1]) * (300 * k + 1) for k in range(5)}).read_bytes()


def test_every_cut_is_found(tmp_path):
    data = whole(tmp_path)
    marked = len(data.rstrip(b"\0"))
    for length in [*range(0, marked, 97), *range(0, marked, BLOCK)]:
        with pytest.raises(DamagedTarError, match="it is cut off"):
            list(list_members(io.BytesIO(data[:length]), png_only))
        with pytest.raises(DamagedTarError, match="it is cut off"):
            list(read_members(io.BytesIO(data[:length]).read, lambda name: name < "2"))
    with pytest.raises(DamagedTarError, match="it ends at byte 1,600, inside a member"):
        list(list_members(io.BytesIO(data[:1600]), lambda _: False))
    with pytest.raises(DamagedTarError, match="it ends at byte 1,600, without the archive's end mark"):
        list(list_members(io.BytesIO(data[:1600]), png_only))


def test_a_flipped_bit_in_any_header_is_found_and_placed(tmp_path):
    data = whole(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        starts = [m.offset for m in archive]
    random = np.random.default_rng(0)
    for start in starts:
        for bit in random.integers(0, 8 * BLOCK, 20):
            bad = bytearray(data)
            bad[start + bit // 8] ^= 1 << bit % 8
            with pytest.raises(DamagedTarError, match=f"at byte {start:,} a member's header is expected"):
                list(list_members(io.BytesIO(bad), png_only))


def test_members_before_the_damage_are_given(tmp_path):
    found = []
    with pytest.raises(DamagedTarError):
        found.extend(list_members(io.BytesIO(whole(tmp_path)[: 5 * BLOCK]), png_only))
    assert [m.name for m in found] == ["0.png", "1.png"]


def test_a_damaged_extended_header_is_found(tmp_path):
    data = bytearray(pack(tmp_path / "a.tar", {LONG: b"x"}, tarfile.PAX_FORMAT).read_bytes())
    data[BLOCK : BLOCK + 3] = b"abc"  # its first record's length
    with pytest.raises(DamagedTarError, match=r"the extended header before byte 1,024 is damaged"):
        list(list_members(io.BytesIO(data), png_only))


def test_sparse_files_are_refused(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(DamagedTarError, match="at byte 0 is a sparse file"):
        list(list_members(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + bytes(2 * BLOCK)), png_only))
