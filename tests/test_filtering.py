"""`repalign filter`: pictures that pair with their originals, a sheet, a record, and nothing half-written."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from repalign.errors import InputError, RepalignError, UnreadableImagesError
from repalign.filtering import filter_pictures
from repalign.filtering.places import check_apart, file_names
from repalign.filtering.work import Work
from repalign.filters import linear_difference, load_filter
from repalign.filters.base import Domain, Step
from repalign.stimuli import load_stimuli, load_stimuli_pair
from repalign.stimuli.image import open_rgb
from repalign.stimuli.paired import load_pair
from repalign.types import Stimuli
from repalign.viewing import load_shown


def colour(index):
    return (20 * index + 5, 255 - 20 * index, 7 * index)


def plain(*ids, **fields):
    """Stimuli of one colour each, from which anyone can tell which is which."""
    return Stimuli("set", ids, lambda i: Image.new("RGB", (6, 4), colour(i)), **fields)


def everything(folder):
    return sorted(p.name for p in folder.iterdir())


def stopping(after, error):
    """A progress report that fails once `after` pictures are done."""
    from contextlib import contextmanager

    @contextmanager
    def track(_label, _total):
        done = []

        def advance(count):
            done.append(count)
            if len(done) == after:
                raise error

        yield advance

    return track


def test_every_picture_is_what_the_filter_makes_of_it(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("repalign.filtering.work.STRIP", 7 * 40)  # 30 rows: four strips of 7, one of 2
    stimuli, filter_ = load_stimuli(str(photos)), load_filter("cat:fov_deg=8")
    done = filter_pictures("cat:fov_deg=8", str(photos), tmp_path / "out")
    originals = [stimuli.load(i) for i in range(12)]
    for own, original in zip(stimuli.ids, originals, strict=True):
        written = Image.open(tmp_path / "out" / own)
        assert written.format == "PNG"
        assert np.array_equal(written, filter_(original))
    files = [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert sorted(files) == sorted(stimuli.ids)
    assert done.n == 12
    assert done.difference == pytest.approx(linear_difference(filter_, originals), rel=1e-12)


def test_the_record_says_how_the_pictures_were_made(photos, tmp_path):
    done = filter_pictures("blur:cpd=1,fov_deg=8,jpeg:q=40", str(photos), tmp_path / "out", limit=5, command="as typed")
    meta = json.loads((tmp_path / "out.json").read_text())
    assert (meta["kind"], meta["spec"]) == ("filter", "blur:cpd=1,fov_deg=8,jpeg:q=40")
    assert (meta["command"], meta["limit"], meta["seed"]) == ("as typed", 5, 0)
    assert "ISO/IEC 10918-1" in meta["reference"]
    assert {"repalign", "torch", "pillow", "python"} <= set(meta["versions"])
    assert (meta["stimuli"]["n"], len(meta["pictures"])) == (5, 5)
    assert {(p["width"], p["height"]) for p in meta["pictures"]} == {(40, 30)}
    squares = [p["difference"] ** 2 for p in meta["pictures"]]
    assert np.sqrt(np.mean(squares)) == pytest.approx(meta["difference"], rel=1e-12)
    assert meta["clipped"] == done.clipped == pytest.approx(np.mean([p["clipped"] for p in meta["pictures"]]))


def test_clipping_is_reported(tmp_path):
    half = Image.new("RGB", (8, 8), "grey")
    half.paste((255, 0, 0), (0, 0, 8, 4))  # a red leaves the cube: less than no blue would look like it to a cat
    done = filter_pictures("cat:fov_deg=60,mtf50=inf", Stimuli("s", ("x",), lambda _: half), tmp_path / "out")
    assert done.clipped == 0.5
    assert "clipped 50 % of the pixels" in done.lines[0]


def test_a_window_keeps_the_scale_of_its_scene(tmp_path):
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    stimuli = Stimuli("s", ("whole", "half"), lambda _: picture, extent=(1.0, 0.5))
    filter_pictures("blur:cpd=1,fov_deg=8", stimuli, tmp_path / "out")
    blur = load_filter("blur:cpd=1,fov_deg=8")
    assert np.array_equal(Image.open(tmp_path / "out/half.png"), blur(picture, 0.5))
    assert not np.array_equal(blur(picture, 1.0), blur(picture, 0.5))


PAIRED = {
    "suffixes": ("x.jpg", "y.JPEG", "a.b.jpg", "cats/1.tif", "z.png"),
    "array": ("0", "1", "2", "3"),
    "video": ("clip.mp4@1.000s", "clip.mp4@1.040s", "b/clip.mp4@0.000s", "clip.mp4@10.000s"),
    "views": ("astronaut/s0.50-x012-y034", "astronaut/s1.00-x000-y000", "rocket/s0.35-x1-y2", "rocket/s0.70-x1-y2"),
    "odd": ("scan.001", "scan.002", "./here.jpg", "ä ö:?*.webp", 'quote".png', "猫.gif", "x..jpg"),
}


@pytest.mark.parametrize("kind", PAIRED)
def test_what_is_written_pairs_with_its_original(kind, tmp_path):
    stimuli = plain(*PAIRED[kind])
    filter_pictures("identity", stimuli, tmp_path / "out")
    a, b = load_stimuli_pair(stimuli, str(tmp_path / "out"))
    assert b.ids == a.ids
    assert not b.skipped
    assert [b.load(i).getpixel((0, 0)) for i in range(len(b))] == [colour(i) for i in range(len(b))]


def test_a_folder_and_an_array_pair_with_what_is_written_of_them(photos, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    filter_pictures("identity", str(photos), tmp_path / "out0")
    filter_pictures("identity", str(tmp_path / "pixels.npy"), tmp_path / "out1")
    a, b = load_stimuli_pair(str(photos), str(tmp_path / "out0"))
    assert all(np.array_equal(a.load(i), b.load(i)) for i in range(12))
    _, b = load_stimuli_pair(str(tmp_path / "pixels.npy"), str(tmp_path / "out1"))
    assert all(np.array_equal(b.load(i), pixels[i]) for i in range(5))


def test_frames_of_videos_pair_with_what_is_written_of_them(tmp_path):
    av = pytest.importorskip("av")
    (tmp_path / "clips").mkdir()
    with av.open(tmp_path / "clips" / "a.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=2)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgr0"
        for k in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 40 * k, np.uint8), "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    filter_pictures("identity", f"video:{tmp_path}/clips:fps=2", tmp_path / "out")
    a, b = load_stimuli_pair(f"video:{tmp_path}/clips:fps=2", str(tmp_path / "out"))
    assert len(a) == 6
    assert all(np.array_equal(a.load(i), b.load(i)) for i in range(6))
    (tmp_path / "clips" / "b.mkv").write_bytes(b"")
    filter_pictures("identity", f"video:{tmp_path}/clips:fps=2", tmp_path / "other", skip_unreadable=True)
    assert json.loads((tmp_path / "other.json").read_text())["skipped"][0][0] == "b.mkv"


@given(st.lists(st.text("ab./~\\ :png\0ü\n", min_size=0, max_size=9), min_size=1, max_size=5, unique=True))
def test_any_ids_pair_below_the_folder_or_are_refused(ids):
    stimuli = plain(*ids)
    try:
        names = file_names(stimuli)
    except InputError:
        return
    assert all(".." not in PurePosixPath(name).parts and not PurePosixPath(name).is_absolute() for name in names)
    a, b = load_pair(stimuli, plain(*names))
    assert [b.load(i).getpixel((0, 0)) for i in range(len(a))] == [colour(i) for i in range(len(a))]


@pytest.mark.parametrize(
    "own", ["../x", "a/../../x.jpg", "/etc/x.jpg", "a//b", "", ".hidden.jpg", "a/.b/c", "__MACOSX/x", "a\0b", "x" * 252]
)
def test_ids_that_lead_elsewhere_or_can_not_be_seen_are_refused(own, tmp_path):
    with pytest.raises(InputError, match=r"1 of 2 ids can't name a file below OUT \('.*\): .* a column id"):
        filter_pictures("identity", plain("fine", own), tmp_path / "out")
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (("x.jpg", "x.png"), r"x\.jpg and x\.png would both be x\.png; rename or remove one"),
        (("x.JPG", "x"), r"x\.JPG and x would both be x\.png"),
        (("x.png/y", "x.jpg"), r"x\.png/y needs a folder x\.png, which is x\.jpg"),
    ],
)
def test_two_ids_of_one_name_are_refused(ids, message):
    with pytest.raises(InputError, match=message):
        file_names(plain(*ids))


def test_names_that_the_disk_confuses_never_replace_each_other(tmp_path):
    work = Work(load_filter("identity"), plain("a", "A"), ("a.png", "a.png"), tmp_path, strict=True)
    with pytest.raises(InputError, match=r"can't tell a\.png from another picture's name"):
        work.run(stopping(99, None))


def test_one_picture_is_enough_on_the_command_line(cli, photos, tmp_path):
    code, out, err = cli("filter", "grey", photos / "cats" / "01.png", tmp_path / "v1.2")
    assert code == 0, err
    assert everything(tmp_path) == ["photos", "v1.2", "v1.2.json", "v1.2.png"]
    assert everything(tmp_path / "v1.2") == ["01.png"]
    for said in ("clipped 0 %", "changed linear light by 0.", f"sheet: {tmp_path}/v1.2.png", "v1.2.json", "(1)"):
        assert said in out
    command = json.loads((tmp_path / "v1.2.json").read_text())["command"]
    assert command.startswith("repalign filter grey ")


def test_two_pictures_are_enough_and_notes_are_said(cli, photos, tmp_path):
    for name in ("03.png", "05.png", "07.png", "09.png"):
        (photos / "cats" / name).unlink()
    code, out, err = cli("filter", "cat:fov_deg=60,tapetum=1.5,luminance=5", photos / "cats", tmp_path / "[x]")
    assert code == 0, err
    assert "note: cat: the gain of the tapetum is the user's number" in out
    assert f"pictures: {tmp_path}/[x] (2)" in out


def test_help_says_what_is_written_beside_the_folder(cli):
    code, out, _ = cli("filter", "--help")
    assert code == 0
    assert "OUT.png" in out
    assert "OUT.json" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cat", "photos", "out"), "give the width of the whole scene"),
        (("cta:fov_deg=60", "photos", "out"), "unknown filter 'cta'; did you mean cat"),
        (("grey", "photso", "out"), "did you mean photos"),
        (("grey", "photos", "no/out"), "the folder no does not exist"),
        (("grey", "photos", "photos/out"), "lie in one another; choose a folder beside"),
        (("grey", ".", "out"), "lie in one another"),
        (("grey", "folder:photos", "photos/out"), "lie in one another"),
        (("grey", "photos/cats", "photos"), "photos exists"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, message, cli, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("filter", *arguments)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert message in err
    assert everything(tmp_path) == ["photos"]


def test_names_of_stimuli_are_no_folders_here(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_apart("bundled:photos", Path("photos/out"))
    check_apart(plain("a"), Path("photos/out"))
    for data, out in (("video:photos:fps=2", "photos/out"), ("photos/cats/01.png", "photos")):
        with pytest.raises(InputError, match="lie in one another"):
            check_apart(data, Path(out))


def test_only_our_own_work_is_replaced(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "out.png").write_text("a picture of mine")
    for force, message in (
        (False, r"out\.png exists; choose another name, or give --force"),
        (True, "is no record of"),
    ):
        with pytest.raises(InputError, match=message):
            filter_pictures("grey", plain("a"), out, force=force)
    assert (tmp_path / "out.png").read_text() == "a picture of mine"
    (tmp_path / "out.png").unlink()
    out.mkdir()
    (tmp_path / "out.json").write_text('{"kind": "thesis"}')
    with pytest.raises(InputError, match=r"out, \S*out\.json exist, and .* is no record"):
        filter_pictures("grey", plain("a"), out, force=True)
    (tmp_path / "out.json").unlink()
    out.rmdir()
    filter_pictures("grey", plain("a", "b"), out)
    filter_pictures("identity", plain("c"), out, force=True)
    assert everything(out) == ["c.png"]
    assert json.loads((tmp_path / "out.json").read_text())["spec"] == "identity"
    assert everything(tmp_path) == ["out", "out.json", "out.png"]


@pytest.mark.parametrize("at", ["pictures", "sheet", "record"])
def test_ctrl_c_leaves_nothing_and_keeps_what_was_there(at, photos, tmp_path, monkeypatch):
    filter_pictures("grey", plain("old"), tmp_path / "kept")
    track = stopping(3 if at == "pictures" else 99, KeyboardInterrupt())

    def interrupted(*_):
        raise KeyboardInterrupt

    if at != "pictures":
        name = {"sheet": "draw_sheet", "record": "_write_record"}[at]
        monkeypatch.setattr(f"repalign.filtering.run.{name}", interrupted)
    for out in ("new", "kept"):
        with pytest.raises(KeyboardInterrupt):
            filter_pictures("grey", str(photos), tmp_path / out, force=True, track=track)
    assert everything(tmp_path) == ["kept", "kept.json", "kept.png", "photos"]
    assert everything(tmp_path / "kept") == ["old.png"]
    assert json.loads((tmp_path / "kept.json").read_text())["pictures"][0]["id"] == "old"


def test_a_full_disk_is_said_and_leaves_nothing(photos, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(RepalignError, match=r"00\.png can't be written: No space left") as caught:
        filter_pictures("grey", str(photos / "dogs"), tmp_path / "out")
    assert caught.value.exit_code == 1
    assert everything(tmp_path) == ["photos"]


def test_unreadable_pictures_stop_the_run_named_and_counted_or_are_left_out(photos, cli, tmp_path):
    (photos / "cats" / "03.png").write_bytes(b"not a picture")
    (photos / "dogs" / "08.png").write_bytes((photos / "dogs" / "08.png").read_bytes()[:60])
    with pytest.raises(UnreadableImagesError, match=r"2 of 12 .*cats/03\.png .*dogs/08\.png .*--skip-unreadable") as e:
        filter_pictures("grey", str(photos), tmp_path / "out")
    assert [own for own, _ in e.value.skipped] == ["cats/03.png", "dogs/08.png"]
    assert everything(tmp_path) == ["photos"]
    code, out, err = cli("filter", "grey", photos, tmp_path / "out", "--skip-unreadable")
    assert code == 0, err
    assert "left out: 2, listed in" in out
    meta = json.loads((tmp_path / "out.json").read_text())
    assert [own for own, _ in meta["skipped"]] == ["cats/03.png", "dogs/08.png"]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 10 == len(meta["pictures"])


def test_nothing_readable_is_an_error(tmp_path):
    def broken(_):
        raise OSError("broken")

    with pytest.raises(UnreadableImagesError, match=r"2 of 2 pictures can't be decoded: a \(broken\), b"):
        filter_pictures("grey", Stimuli("s", ("a", "b"), broken), tmp_path / "out", skip_unreadable=True)
    assert everything(tmp_path) == []


def test_a_limit_is_the_subset_of_a_comparison(photos, tmp_path):
    done = filter_pictures("grey", str(photos), tmp_path / "out", limit=7, seed=3)
    assert tuple(p.id for p in done.pictures) == load_shown(str(photos), None, limit=7, seed=3)[0].ids
    with pytest.raises(InputError, match="--limit 0 leaves too few stimuli; give at least 1"):
        filter_pictures("grey", str(photos), tmp_path / "other", limit=0)


@dataclass(frozen=True)
class Halved(Step):
    """A filter that changes sizes, with a note of its own for each."""

    name: ClassVar[str] = "halved"
    source: ClassVar[str] = "this test"
    domain: ClassVar[Domain] = "encoded"

    @property
    def label(self):
        return "half the size"

    def render(self, x, scene):
        return x[:, :, ::2, ::2]

    def run_notes(self, height, width):
        return (f"halved {width} × {height}",)


def test_a_changed_size_has_no_difference_and_notes_do_not_pile_up(tmp_path):
    stimuli = Stimuli("s", tuple("abcdefgh"), lambda i: Image.new("RGB", (10 + i, 8)))
    done = filter_pictures(Halved(), stimuli, tmp_path / "out")
    assert done.difference is None
    assert json.loads((tmp_path / "out.json").read_text())["difference"] is None
    assert "no difference is defined" in done.lines[0]
    assert done.notes == (*(f"halved {10 + i} × 8" for i in range(5)), "… and 3 more of the kind")
    assert (done.pictures[4].width, done.pictures[4].height) == (7, 4)


def test_the_record_keeps_names_that_are_no_text(tmp_path):
    filter_pictures("identity", plain("caf\udce9.jpg", "猫.jpg"), tmp_path / "out")
    text = (tmp_path / "out.json").read_text(encoding="utf-8")
    assert "猫" in text
    assert json.loads(text)["pictures"][0]["id"] == "caf\udce9.jpg"
    assert open_rgb(tmp_path / "out" / "caf\udce9.png").size == (6, 4)
