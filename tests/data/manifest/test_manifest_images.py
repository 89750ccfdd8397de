"""Pictures: upright, in RGB whatever they are, cut to a square, and damaged ones refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from gmd.data.manifest.cells import Cell, Table, Unreadable
from gmd.data.manifest.images import bombs_refused, check_image, load_image
from gmd.errors import UserError
from helpers.manifest_cases import write_picture


def cell(folder, text):
    return Cell(Table(folder / "m.csv", folder), 2, "image:x", text)


def load(folder, text, frames=1, size=8, augment=False, rng=None):
    check(folder, text)
    return load_image(cell(folder, text), frames, size, augment, rng)


def check(folder, text):
    with bombs_refused():
        return check_image(cell(folder, text))


def colours(values):
    """The mean of each colour, of 255, rounded."""
    return [round(255 * float(value)) for value in values.mean(dim=(0, 2, 3))]


def test_a_picture_is_cut_to_the_square_in_its_middle(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = (10, 20, 30)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    values = load(tmp_path, "x.png", size=5)
    assert values.shape == (1, 3, 5, 5)
    assert values.dtype == torch.float32
    assert (255 * values[0, :, :, 1:4]).round().unique().tolist() == [10, 20, 30]
    assert float(values[0, 1].min()) > 15 / 255  # at its rim, black shines through as where the whole is resized


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.bmp", "x.gif", "x.tif", "x.ppm"])
def test_formats(tmp_path, name):
    size = write_picture(tmp_path / name, (200, 100, 50)).stat().st_size
    assert check(tmp_path, name) == size
    assert np.abs(np.subtract(colours(load(tmp_path, name)), (200, 100, 50))).max() <= 4


def test_a_turned_camera(tmp_path):
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:10] = 255  # as it is in the file: the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise: then the right half is
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=95)
    values = load(tmp_path, "x.jpg")[0, 0]
    assert values[:, 6:].mean() > 0.9
    assert values[:, :2].mean() < 0.1


def saved(path, pixels, mode=None, **options):
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)


def test_sixteen_bits(tmp_path):
    saved(tmp_path / "x.png", np.full((8, 8), 0x8000, np.uint16))
    saved(tmp_path / "x.tif", np.full((8, 8), 0x8000, np.int32))
    assert colours(load(tmp_path, "x.png")) == colours(load(tmp_path, "x.tif")) == [128, 128, 128]


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "YCbCr"])
def test_modes_become_rgb(tmp_path, mode):
    name = "x.tif" if mode in ("CMYK", "YCbCr") else "x.png"
    saved(tmp_path / name, np.full((8, 8, 3), 255, np.uint8), mode)
    assert colours(load(tmp_path, name)) == [255, 255, 255]


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    saved(tmp_path / "x.png", pixels)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert colours(load(tmp_path, "x.png")) == colours(load(tmp_path, "p.png")) == [255, 255, 255]


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(Unreadable, match="floating-point pixels, expected 8 or 16 bits"):
        check(tmp_path, "x.tif")


def frames(folder, count):
    for i in range(count):
        write_picture(folder / "f" / f"{i}.png", (i, 0, 0))
    (folder / "f" / "notes.txt").write_text("no picture", encoding="utf-8")
    (folder / "f" / ".hidden.png").write_text("no picture", encoding="utf-8")


@pytest.mark.parametrize(
    ("count", "wanted", "expected"), [(12, 3, [2, 6, 10]), (12, 1, [6]), (2, 4, [0, 0, 1, 1]), (1, 2, [0, 0])]
)
def test_the_middle_frame_of_each_part(tmp_path, count, wanted, expected):
    frames(tmp_path, count)  # 10 and 11 come after 9
    values = load(tmp_path, "f", wanted)
    assert [round(255 * float(frame[0].mean())) for frame in values] == expected


def test_frames_of_training_are_drawn_within_their_parts(tmp_path):
    frames(tmp_path, 12)
    rng, found = np.random.default_rng(0), []
    for _ in range(40):
        values = load(tmp_path, "f", 3, rng=rng)
        found.append([round(255 * float(frame[0].mean())) for frame in values])
    assert [set(part) for part in zip(*found, strict=True)] == [set(range(4)), set(range(4, 8)), set(range(8, 12))]


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "f").mkdir()
    with pytest.raises(Unreadable, match="is a folder without pictures"):
        check(tmp_path, "f")


def test_a_random_part_of_the_picture_the_same_of_all_frames(tmp_path):
    ramp = np.tile(np.arange(0, 240, 6, dtype=np.uint8), (40, 1))
    for name in ("a", "b"):
        (tmp_path / "f").mkdir(exist_ok=True)
        Image.fromarray(np.stack([ramp, ramp.T, ramp], axis=-1)).save(tmp_path / "f" / f"{name}.png")
    spans, mirrored = [], []
    for seed in range(60):
        values = load(tmp_path, "f", 2, 16, True, np.random.default_rng(seed))
        assert torch.equal(values[0], values[1])
        spans.append(float((values[0, 0].max() - values[0, 0].min()) * (values[0, 1].max() - values[0, 1].min())))
        mirrored.append(bool(values[0, 0, 0, 0] > values[0, 0, 0, -1]))
    whole = (234 / 255) ** 2
    assert all(0.4 * whole < span <= whole for span in spans)
    assert 15 < sum(mirrored) < 45
    again = load(tmp_path, "f", 2, 16, True, np.random.default_rng(0))
    assert torch.equal(again, load(tmp_path, "f", 2, 16, True, np.random.default_rng(0)))


def cut(path, part=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    return path


@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_truncated_files_are_found_by_their_check(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    saved(tmp_path / name, noise)
    cut(tmp_path / name)
    with pytest.raises(Unreadable, match=r"m.csv: line 2, image:x: .*cannot be read as a picture"):
        check(tmp_path, name)


def test_what_only_decoding_finds_names_file_and_row(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    saved(tmp_path / "x.bmp", noise)
    cut(tmp_path / "x.bmp")
    with pytest.raises(UserError, match=r"m.csv: line 2, image:x: .*x.bmp: cannot be read as a picture"):
        load_image(cell(tmp_path, "x.bmp"), 1, 8, False, None)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    write_picture(tmp_path / "x.png", size=(100, 100))
    for most in (9000, 4000):  # of which Pillow warns, and which it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(Unreadable, match="decompression bomb"):
            check(tmp_path, "x.png")
        with pytest.raises(Unreadable, match="decompression bomb"):
            load_image(cell(tmp_path, "x.png"), 1, 8, False, None)


def test_formats_that_start_programs_are_not_read(tmp_path):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(Unreadable, match=r"cannot be read: it is text, beginning with .*, not a picture"):
        check(tmp_path, "x.png")
