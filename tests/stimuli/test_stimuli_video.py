import random
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from repalign.errors import InputError, UnreadableImagesError
from repalign.stimuli import load_stimuli, load_stimuli_pair, video_reader
from repalign.stimuli.video import load, parse
from repalign.stimuli.video_file import probe, pyav
from repalign.stimuli.video_picture import Painter

TENTHS = [k / 10 for k in range(40)]
H264 = {"codec": "libx264", "options": {"crf": "12"}, "bframes": 2}
MPEG4 = {"codec": "mpeg4", "bframes": 0}
VP9 = {"codec": "libvpx-vp9", "options": {"crf": "10"}}


def film(
    path, times=TENTHS, codec="libx264", size=(64, 48), unit=Fraction(1, 1000), options=None, container=None, turn=None,
    bframes=0, draw=None, sound=False,
):  # fmt: skip
    """Write a video whose k-th frame, shown at times[k], is grey of level 8 + 6k, or what draw(k) gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=10, options={"b": "2M", **(options or {})})
        stream.width, stream.height = size
        stream.pix_fmt, stream.codec_context.time_base, stream.codec_context.gop_size = "yuv420p", unit, 8
        if bframes:
            stream.codec_context.max_b_frames = bframes
        if turn is not None:
            stream.set_display_rotation(turn)
        for k, seconds in enumerate(times):
            pixels = draw(k) if draw else np.full((size[1], size[0], 3), 8 + 6 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(seconds / unit), unit
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def tune(path, seconds=2):
    """Write sound without a picture."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        for k in range(seconds * 8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1000 * k
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def number(picture):
    """Read which frame of a film a picture shows."""
    return round((np.asarray(picture)[8:-8, 8:-8].mean() - 8) / 6)


def numbers(stimuli):
    return [number(stimuli.load(i)) for i in range(len(stimuli))]


FAST = {**H264, "container": {"movflags": "faststart"}}
PARTS = {**H264, "container": {"movflags": "frag_keyframe+empty_moov"}}
FILMS = {
    "h264.mp4": H264, "late.mkv": {**H264, "times": [5.0 + t for t in TENTHS]}, "fast.mov": FAST,
    "fragments.mp4": PARTS, "mpeg4.mp4": {**MPEG4, "bframes": 2}, "vp9.webm": VP9, "vp8.webm": {"codec": "libvpx"},
    "odd.mkv": {"codec": "ffv1", "size": (37, 29)}, "h264.avi": {**H264, "unit": Fraction(1, 10)},
    "mpeg4.avi": {**MPEG4, "unit": Fraction(1, 10)}, "h264.ts": H264, "h264.flv": H264,
    "old.wmv": {"codec": "msmpeg4v3"},
}  # fmt: skip


@pytest.mark.parametrize("name", FILMS)
def test_the_first_frame_at_or_after_each_time(tmp_path, name, capfd):
    film(tmp_path / name, **FILMS[name])
    capfd.readouterr()
    stimuli = load(tmp_path / name)
    assert stimuli.ids == tuple(f"{name}@{k}.000s" for k in range(4))
    assert numbers(stimuli) == [0, 10, 20, 30]
    picture = stimuli.load(0)
    assert (picture.mode, picture.size) == ("RGB", FILMS[name].get("size", (64, 48)))
    assert numbers(load(f"{tmp_path}/{name}:fps=all")) == list(range(40))
    assert numbers(load(f"{tmp_path}/{name}:fps=4")) == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30, 33, 35, 38]
    assert capfd.readouterr() == ("", "")


def test_variable_frame_rate_goes_by_time_and_a_gap_gives_no_frame_twice(tmp_path):
    times = [0, 0.2, 0.95, 1.0, 1.3, 1.4, 3.7, 3.8, 4.0, 4.1]
    film(tmp_path / "v.mkv", times, **H264)
    stimuli = load(tmp_path / "v.mkv")
    assert stimuli.ids == ("v.mkv@0.000s", "v.mkv@1.000s", "v.mkv@3.700s", "v.mkv@4.000s")
    assert numbers(stimuli) == [0, 3, 6, 8]


def test_rounded_times_still_meet_their_grid(tmp_path):
    rate = Fraction(30000, 1001)
    film(tmp_path / "ntsc.mkv", [float(k / rate) for k in range(40)], **VP9)  # Matroska rounds to milliseconds
    assert numbers(load(f"{tmp_path}/ntsc.mkv:fps=30000/1001")) == list(range(40))
    assert numbers(load(f"{tmp_path}/ntsc.mkv:fps=15000/1001")) == list(range(0, 40, 2))


def test_a_frame_keeps_its_id_whatever_was_asked_for(tmp_path):
    film(tmp_path / "a.mp4", **H264)
    every = load(f"{tmp_path}:fps=all")
    shows = dict(zip(every.ids, numbers(every), strict=True))
    for options in ("fps=3", "fps=7,max=5", "fps=10,thin=0.05", "fps=15/11", "max=4"):
        some = load(f"{tmp_path}:{options}")
        assert [shows[name] for name in some.ids] == numbers(some)


def test_frames_closer_than_a_millisecond_have_ids_of_their_own(tmp_path):
    film(tmp_path / "a.mp4", [k / 4000 for k in range(8)], unit=Fraction(1, 4000), **MPEG4)
    assert load(f"{tmp_path}:fps=all").ids[:3] == ("a.mp4@0.000000s", "a.mp4@0.000250s", "a.mp4@0.000500s")


def test_groups_labels_and_notes_of_a_folder(tmp_path, monkeypatch):
    for name in ("cat/x.mp4", "cat/deep/y.mkv", "dog.mp4"):
        film(tmp_path / "clips" / name, TENTHS[:25], **VP9 if name.endswith("mkv") else MPEG4)
    (tmp_path / "clips" / "notes.txt").write_text("x")
    (tmp_path / "clips" / ".hidden.mp4").write_text("x")
    monkeypatch.chdir(tmp_path)
    stimuli = load_stimuli("clips")
    names = ("cat/deep/y.mkv",) * 3 + ("cat/x.mp4",) * 3 + ("dog.mp4",) * 3
    assert (stimuli.name, stimuli.groups, stimuli.labels) == ("clips/", names, ("cat",) * 6 + ("",) * 3)
    assert stimuli.ids[3:5] == ("cat/x.mp4@0.000s", "cat/x.mp4@1.000s")
    assert stimuli.notes == ("9 frames of 3 videos: 1 a second of video time",)
    assert stimuli.skipped == (("notes.txt", "by its suffix it is no video"),)
    assert numbers(stimuli.take([8, 1, 3])) == [20, 10, 0]
    assert load_stimuli("video:clips/").ids == load_stimuli("clips/").ids == stimuli.ids


def test_a_folder_with_an_image_stays_one_of_images(tmp_path):
    film(tmp_path / "a.mp4", **MPEG4)
    for k in range(4):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{k}.png")
    stimuli = load_stimuli(tmp_path)
    assert stimuli.ids == ("0.png", "1.png", "2.png", "3.png")
    assert stimuli.skipped == (("a.mp4", "Pillow reads no such file"),)
    assert load_stimuli(f"video:{tmp_path}").groups == ("a.mp4",) * 4


def test_thinning_compares_with_the_frame_kept_last_and_counts(tmp_path):
    levels = [50, 51, 52, 53, 54, 55, 90, 90, 90, 50]  # slow drift, a cut, a rest, and back
    film(tmp_path / "a.mkv", [k / 10 for k in range(10)], codec="ffv1", draw=lambda k: grey(levels[k]))
    stimuli = load(f"{tmp_path}:fps=all,thin=0.011")  # 2.8 levels
    assert [name.split("@")[1] for name in stimuli.ids] == ["0.000s", "0.300s", "0.600s", "0.900s"]
    assert stimuli.notes == (
        "4 frames of 1 videos: every frame",
        "thinned: 6 of 10 frames dropped, less than 0.011 (RMS of grey) from the last one kept",
    )


def grey(level, size=(64, 48)):
    return np.full((size[1], size[0], 3), level, np.uint8)


def test_the_largest_number_is_spread_evenly(tmp_path):
    film(tmp_path / "a.mp4", **H264)
    stimuli = load(f"{tmp_path}:fps=10,max=4")
    assert numbers(stimuli) == [0, 13, 26, 39]
    assert stimuli.notes[1] == "at most 4 frames a video, evenly spread"


@pytest.mark.parametrize("name", ["h264.mp4", "h264.avi"])
@pytest.mark.parametrize("ahead", [1, 8, 32])
def test_threads_and_any_order_give_what_one_pass_gives(tmp_path, monkeypatch, name, ahead):
    monkeypatch.setattr(video_reader, "MOST_AHEAD", ahead)
    monkeypatch.setattr(video_reader, "MOST_OPEN", 2)
    for k in range(3):
        film(tmp_path / f"{k}{name}", **FILMS[name], draw=lambda i, k=k: noise(i + 40 * k))
    spec = f"{tmp_path}:fps=all"
    one = load(spec)
    pixels = [one.load(i).tobytes() for i in range(len(one))]
    assert len(set(pixels)) == len(pixels) == 120
    several = load(spec)
    with ThreadPoolExecutor(8) as threads:
        assert [p.tobytes() for p in threads.map(several.load, range(120))] == pixels
    order = random.Random(0).sample(range(120), 25)
    assert [several.load(i).tobytes() for i in order] == [pixels[i] for i in order]


def noise(seed):
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC))


def test_frames_in_order_are_decoded_once_and_files_closed(tmp_path, monkeypatch):
    film(tmp_path / "a.mp4", **H264)
    film(tmp_path / "b.mkv", **H264)
    stimuli = load(f"{tmp_path}:fps=all")
    opens, painted, real = [], [], video_reader.opened
    monkeypatch.setattr(video_reader, "opened", lambda path, threaded: opens.append(path.name) or real(path))
    paint = Painter.paint
    monkeypatch.setattr(Painter, "paint", lambda self, frame: painted.append(frame.pts) or paint(self, frame))
    for passes in (1, 2):
        with ThreadPoolExecutor(8) as threads:
            assert [number(p) for p in threads.map(stimuli.load, range(80))] == [*range(40), *range(40)]
        assert (sorted(opens), len(painted)) == (["a.mp4"] * passes + ["b.mkv"] * passes, 80 * passes)
    held = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert not [path for path in held if path.is_relative_to(tmp_path)]


def cut(path, share=0.6):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


BROKEN = {
    "no-index.mp4": (H264, r"it is cut off: [\d,]+ bytes of those it announces are missing"),
    "index-first.mp4": (FAST, "it is cut off: .* are missing"),
    "fragments.mp4": (PARTS, "it is cut off: .* are missing"),
    "cut.mkv": (H264, "it is cut off: .* are missing"),
    "cut.webm": (VP9, "it is cut off: .* are missing"),
    "cut.avi": (FILMS["mpeg4.avi"], "it is cut off: .* are missing"),
    "cut.flv": (H264, r"it is (cut off: it lasts 4\.\d s, but its last frame is at [12]\.\d s|damaged .*)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_truncated_file_is_found_when_it_is_listed(tmp_path, name):
    settings, reason = BROKEN[name]
    film(tmp_path / name, **settings)
    assert len(probe(tmp_path / name, name).ticks) == 40
    cut(tmp_path / name)
    film(tmp_path / "whole.mp4", **MPEG4)
    with pytest.raises(UnreadableImagesError, match=rf"1 of 2 videos can't be read: {name} \({reason}\); .*--skip-unr"):
        load_stimuli(tmp_path)
    stimuli = load_stimuli(tmp_path, skip_unreadable=True)
    assert set(stimuli.groups) == {"whole.mp4"}
    assert [skipped for skipped, _ in stimuli.skipped] == [name]


def test_one_missing_byte_is_found(tmp_path):
    for name in ("a.mp4", "a.mkv", "a.avi"):
        film(tmp_path / name, **MPEG4, unit=Fraction(1, 10))
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    with pytest.raises(
        InputError, match=r"3 of 3 .*a\.avi \(it is cut off: 1 bytes of .*a\.mkv .* 1 bytes .*a\.mp4 .* 1 b"
    ):
        load(tmp_path)


def test_junk_behind_a_whole_file_and_an_unfinished_recording_are_no_truncation(tmp_path):
    film(tmp_path / "a.mp4", **H264)
    with (tmp_path / "a.mp4").open("ab") as file:
        file.write(b"\xff\xff\xff\xffjunk" * 9)
    film(tmp_path / "live.mkv", **H264, container={"live": "1"})
    assert len(load(tmp_path)) == 8


def test_all_broken_files_are_named_with_their_reasons(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no film " * 99)
    tune(tmp_path / "sound.mp4")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableImagesError) as caught:
        load(tmp_path, skip_unreadable=True)
    reasons = dict(caught.value.skipped)
    assert reasons["empty.mp4"] == "it is empty"
    assert reasons["text.mp4"] == "libav can't read it (Invalid data found when processing input)"
    assert reasons["sound.mp4"] == "it has no video stream"
    assert set(reasons) == {"empty.mp4", "text.mp4", "sound.mp4", "list.mp4"}
    assert str(caught.value).startswith(f"{tmp_path}: 4 of 4 videos can't be read: empty.mp4 (it is empty); ")
    assert str(caught.value).endswith("; mend or remove them")


def test_a_video_broken_on_one_side_leaves_both(tmp_path):
    for name in ("x.mp4", "y.mp4"):
        film(tmp_path / "a" / name, **MPEG4)
        film(tmp_path / "b" / name, **MPEG4)
    cut(tmp_path / "b" / "x.mp4")
    with pytest.raises(UnreadableImagesError, match=r"b: 1 of 2 videos .*x\.mp4"):
        load_stimuli_pair(tmp_path / "a", tmp_path / "b")
    a, b = load_stimuli_pair(tmp_path / "a", tmp_path / "b", skip_unreadable=True)
    assert a.ids == b.ids == tuple(f"y.mp4@{k}.000s" for k in range(4))
    assert a.skipped == (("x.mp4", f"{tmp_path}/b/ has it, unreadable"),)


@pytest.mark.parametrize("bframes", [0, 2])
def test_damage_shows_when_a_frame_is_loaded_and_reaches_to_the_next_key_frame(tmp_path, bframes):
    film(tmp_path / "a.mkv", draw=lambda k: noise(0) // 2 + 2 * np.uint8(k), options={"bf": str(bframes)})
    with av.open(str(tmp_path / "a.mkv")) as whole:
        packet = [(p.pts // 100, bytes(p)) for p in whole.demux(video=0) if p.size][18]
    content = (tmp_path / "a.mkv").read_bytes()
    assert content.count(packet[1]) == 1
    (tmp_path / "a.mkv").write_bytes(content.replace(packet[1], packet[1][:8] + bytes(len(packet[1]) - 8)))
    stimuli = load(f"{tmp_path}:fps=all")
    bad = [i for i in range(40) if not loads(stimuli, i)]
    assert packet[0] in bad
    assert set(bad) <= set(range(17, 24))
    assert bframes or bad == list(range(18, 24))
    with pytest.raises(
        InputError, match=rf"a\.mkv: the frame at {packet[0] / 10:.3f} s can't be decoded: .*--skip-unr"
    ):
        stimuli.load(packet[0])
    with ThreadPoolExecutor(8) as threads:
        assert [i for i, good in enumerate(threads.map(lambda i: loads(stimuli, i), range(40))) if not good] == bad
    with pytest.raises(UnreadableImagesError, match=r"1 of 1 videos can't be read: a\.mkv \(it is "):
        load(f"{tmp_path}:fps=all,thin=0.01")


def loads(stimuli, i):
    try:
        return stimuli.load(i).mode == "RGB"
    except InputError:
        return False


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="PyAV before 18 writes none")
@pytest.mark.parametrize(("turn", "corner"), [(0, (5, 5)), (90, (5, 58)), (180, (58, 42)), (-90, (42, 5))])
def test_rotation_is_applied(tmp_path, turn, corner):
    def corner_lit(_):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:16, :16] = 255
        return pixels

    film(tmp_path / "a.mov", **H264, turn=turn, draw=corner_lit)
    picture = load(tmp_path / "a.mov").load(1)
    assert picture.size == ((48, 64) if turn in (90, -90) else (64, 48))
    assert picture.getpixel(corner)[1] > 200
    assert np.asarray(picture).mean() < 60


MATRIX = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # red and blue of BT.709, BT.601, BT.2020


def to_rgb(y, u, v, matrix, full):
    """Invert ITU-R BT.709, BT.601 and BT.2020's Y'CbCr."""
    red, blue = MATRIX[matrix]
    luma = y / 255 if full else (y - 16) / 219
    cb, cr = ((c - 128) / (255 if full else 224) for c in (u, v))
    r, b = luma + 2 * (1 - red) * cr, luma + 2 * (1 - blue) * cb
    return np.clip(255 * np.array([r, (luma - red * r - blue * b) / (1 - red - blue), b]), 0, 255)


@pytest.mark.parametrize("height", [480, 720])
@pytest.mark.parametrize(("matrix", "bounds"), [(1, 1), (1, 2), (5, 1), (6, 2), (9, 1), (2, 0), (2, 2)])
def test_colours_go_by_the_streams_own_matrix_and_range(matrix, bounds, height):
    frame = av.VideoFrame(64, height, "yuv420p")
    levels = (110, 90, 170)
    for plane, level in zip(frame.planes, levels, strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    frame.colorspace, frame.color_range, frame.pts = matrix, bounds, 0
    assumed = {2: 1 if height >= 720 else 5, 6: 5}.get(matrix, matrix)
    expected = to_rgb(*levels, assumed, full=bounds == 2)
    assert np.abs(np.asarray(Painter().paint(frame))[20, 20] - expected).max() <= 0.51


@pytest.mark.parametrize("name", ["a:b=c.mp4", "clips:2024/a=b.mp4", "100% cät.mp4"])
def test_paths_may_hold_colons_and_equals_signs(tmp_path, name):
    film(tmp_path / name, **MPEG4)
    assert load_stimuli(f"video:{tmp_path}/{name}").groups == (Path(name).name,) * 4
    assert len(load_stimuli(f"video:{tmp_path}/{name}:fps=2")) == 8
    assert len(load_stimuli(tmp_path / name)) == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("x:fsp=2", "unknown option of video 'fsp'; did you mean fps?"),
        ("x:fps=0", "video: fps takes frames a second above 0 and up to 1,000,000, or all, not '0'"),
        ("x:fps=nan", "video: fps takes .* not 'nan'"),
        ("x:thin=2", "video: thin takes an RMS difference above 0 and up to 1, such as 0.02, not '2'"),
        ("x:max=1.5", "video: max takes a number of frames above 0, not '1.5'"),
        ("x:max=1,max=2", "video: max is given 2 times in max=1,max=2; give it once"),
        ("", "video: names no file"),
    ],
)
def test_options_that_cannot_be(spec, message):
    with pytest.raises(InputError, match=message):
        parse(spec)


def test_too_few_no_video_and_no_path(tmp_path):
    film(tmp_path / "a.mp4", TENTHS[:20], **MPEG4)
    with pytest.raises(
        InputError, match=r"gives 2 frames \(1 a second of video time\), but .* at least 4 .*; raise fps"
    ):
        load_stimuli(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"sub holds 1 files but no video; give a folder of \.mp4"):
        load(tmp_path / "sub")
    with pytest.raises(InputError, match="there is no video or folder of videos"):
        load(f"{tmp_path}/none.mp4:fps=2")


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    film(tmp_path / "a.mp4", **MPEG4)
    monkeypatch.setitem(sys.modules, "av", None)
    pyav.cache_clear()
    with pytest.raises(InputError, match=r"videos need PyAV, .*: pip install 'repalign\[video\]'"):
        load_stimuli(tmp_path)
