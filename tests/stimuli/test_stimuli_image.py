import io
import struct

import numpy as np
import pytest
from PIL import Image

from repalign.errors import InputError
from repalign.stimuli.image import image_suffixes, is_image, open_rgb, thumbnail

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112


def close(image, xy, colour, tolerance=6):
    return max(abs(a - b) for a, b in zip(image.getpixel(xy), colour, strict=True)) <= tolerance


def halves(size=(32, 16)):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def save(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "gif", "tga", "jp2", "avif", "qoi"])
def test_every_common_format_opens(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    image = open_rgb(save(halves(), tmp_path / f"a.{suffix}", **options))
    assert (image.mode, image.size) == ("RGB", (32, 16))
    assert close(image, (4, 8), RED, 12)
    assert close(image, (28, 8), BLUE, 12)


def test_bytes_and_text_paths_open_as_a_path_does(tmp_path):
    path = save(halves(), tmp_path / "a.png")
    assert open_rgb(path.read_bytes()) == open_rgb(path) == open_rgb(str(path))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_once(tmp_path, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn 90° clockwise to show
    image = open_rgb(save(halves(), tmp_path / f"a.{suffix}", exif=exif))
    assert image.size == (16, 32)
    assert close(image, (8, 4), RED, 12)
    assert close(image, (8, 28), BLUE, 12)


def test_a_16_bit_picture_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    values = np.zeros((16, 32), np.uint16)
    values[:, 16:] = 65535
    image = open_rgb(save(Image.fromarray(values), tmp_path / "a.png", exif=exif))
    assert image.getpixel((8, 4)) == (0, 0, 0)
    assert image.getpixel((8, 28)) == WHITE


def test_cmyk_jpeg(tmp_path):
    image = open_rgb(save(halves().convert("CMYK"), tmp_path / "a.jpg", quality=95))
    assert close(image, (4, 8), RED, 12)
    assert close(image, (28, 8), BLUE, 12)


def test_palette(tmp_path):
    image = open_rgb(save(halves().quantize(4), tmp_path / "a.png"))
    assert image.getpixel((4, 8)) == RED


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_palette_with_transparency_lies_on_white(tmp_path, transparency):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((0, 0), 0)
    opened = open_rgb(save(image, tmp_path / "a.png", transparency=transparency))
    assert opened.getpixel((0, 0)) == WHITE
    assert opened.getpixel((1, 1)) == RED


def test_alpha_channels_are_laid_over_white(tmp_path):
    rgba = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    rgba.putpixel((1, 0), (255, 0, 0, 255))
    rgba.putpixel((2, 0), (0, 0, 0, 128))
    opened = open_rgb(save(rgba, tmp_path / "a.png"))
    assert [opened.getpixel((x, 0)) for x in range(3)] == [WHITE, RED, (127, 127, 127)]
    la = Image.new("LA", (2, 1), (0, 0))
    la.putpixel((1, 0), (10, 255))
    opened = open_rgb(save(la, tmp_path / "la.png"))
    assert [opened.getpixel((x, 0)) for x in range(2)] == [WHITE, (10, 10, 10)]


@pytest.mark.parametrize(("mode", "key", "other"), [("L", 7, 9), ("RGB", (1, 2, 3), (9, 9, 9))])
def test_a_colour_that_stands_for_transparent_becomes_white(tmp_path, mode, key, other):
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), other)
    opened = open_rgb(save(image, tmp_path / "a.png", transparency=key))
    assert opened.getpixel((0, 0)) == WHITE
    assert opened.getpixel((1, 0)) == (9, 9, 9)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    image = open_rgb(save(Image.fromarray(values), tmp_path / f"a.{suffix}"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_big_endian_16_bit_grey(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 3 1 65535 " + struct.pack(">3H", 0, 257 * 100, 65535))
    assert np.asarray(open_rgb(path))[0, :, 0].tolist() == [0, 100, 255]


def test_integers_have_the_white_of_16_bits_and_floats_1(tmp_path):
    integers = Image.fromarray(np.array([[0, 257, 65535]], np.int32))
    assert np.asarray(open_rgb(save(integers, tmp_path / "i.tif")))[0, :, 2].tolist() == [0, 1, 255]
    floats = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    assert np.asarray(open_rgb(save(floats, tmp_path / "f.tif")))[0, :, 1].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([[-1.0, 0.5]], np.float32), "its grey values run from -1 to 0.5 where 0 to 1 is expected"),
        (np.array([[0.0, 255.0]], np.float32), "its grey values run from 0 to 255 where 0 to 1 is expected"),
        (np.array([[np.nan, 1.0]], np.float32), "its grey values run from nan to nan where 0 to 1 is expected"),
        (np.array([[-5, 70000]], np.int32), "its grey values run from -5 to 70000 where 0 to 65535 is expected"),
    ],
)
def test_grey_values_out_of_range_are_named(tmp_path, values, text):
    path = save(Image.fromarray(values), tmp_path / "a.tif")
    with pytest.raises(InputError, match="can't be read as a picture") as caught:
        open_rgb(path)
    assert text in str(caught.value)


def test_bilevel_lab_and_ycbcr(tmp_path):
    assert open_rgb(save(Image.new("1", (4, 4), 1), tmp_path / "a.png")).getpixel((0, 0)) == WHITE
    assert close(open_rgb(save(Image.new("LAB", (4, 4), (255, 128, 128)), tmp_path / "lab.tif")), (0, 0), WHITE)
    ycbcr = Image.new("RGB", (4, 4), GREEN).convert("YCbCr")
    assert close(open_rgb(save(ycbcr, tmp_path / "y.tif")), (0, 0), GREEN)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_an_animation_gives_its_first_frame(tmp_path, suffix):
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    path = save(first, tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert close(open_rgb(path), (4, 4), RED)


def test_the_picture_outlives_its_file(tmp_path):
    path = save(halves(), tmp_path / "a.png")
    image = open_rgb(path)
    path.unlink()
    assert image.copy().getpixel((0, 0)) == RED


def test_a_text_file_named_jpg(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("not a picture")
    with pytest.raises(InputError) as caught:
        open_rgb(path)
    assert str(caught.value) == (
        f"{path} can't be read as a picture: it is in no format Pillow reads; repair the file or leave it out"
    )


def test_empty_bytes_and_missing_file(tmp_path):
    with pytest.raises(InputError, match="<0 bytes> can't be read as a picture: it is in no format Pillow reads"):
        open_rgb(b"")
    with pytest.raises(InputError, match=r"gone\.png can't be read as a picture: No such file or directory"):
        open_rgb(tmp_path / "gone.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif"])
def test_a_truncated_file_is_no_picture(tmp_path, suffix):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path = save(noise, tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"a\.{suffix} can't be read as a picture: .+; repair the file"):
        open_rgb(path)


@pytest.mark.parametrize("limit", [100, 300])  # 512 pixels: above twice the limit an error, below it a warning
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, limit):
    path = save(halves(), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match=r"a\.png can't be read as a picture: Image size .* decompression bomb"):
        open_rgb(path)


def test_damaged_bytes_are_an_input_error_too():
    buffer = io.BytesIO()
    halves().save(buffer, "png")
    damaged = bytearray(buffer.getvalue())
    damaged[damaged.index(b"IHDR") + 5] ^= 0xFF
    with pytest.raises(InputError, match=r"<\d+ bytes> can't be read as a picture"):
        open_rgb(bytes(damaged))


def test_a_mode_pillow_cannot_convert_is_an_input_error(tmp_path, monkeypatch):
    path = save(halves(), tmp_path / "a.png")

    def refuse(image, mode):
        raise ValueError(f"conversion to {mode} not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(InputError, match=r"a\.png can't be read as a picture: conversion to RGB not supported;"):
        open_rgb(path)


def test_is_image_goes_by_suffix():
    assert all(is_image(f"a{s}") for s in (".jpg", ".JPEG", ".png", ".webp", ".tiff", ".gif", ".bmp", ".ppm"))
    assert not any(is_image(f"a{s}") for s in (".txt", ".csv", ".npy", ".pdf", ".h5", ".mp4", ".mpg", ""))
    assert all(s == s.lower() and s.startswith(".") for s in image_suffixes())


def test_a_thumbnail_fits_and_leaves_its_source():
    image = halves((200, 100))
    assert thumbnail(image).size == (96, 48)
    assert thumbnail(image, 50).size == (50, 25)
    assert thumbnail(Image.new("RGB", (5, 5))).size == (5, 5)
    assert image.size == (200, 100)
