"""Row 87: folders of images, what is in them, and how pixels become numbers."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from nncomp.data import PRESETS, ImageSource, Preprocess, open_data
from nncomp.data.images import evenly
from nncomp.data.preprocess import MAX_PIXELS
from nncomp.errors import DataError

RGB = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [51, 102, 153]]], np.uint8)
IDENTITY = Preprocess()


@pytest.fixture
def graph(model):
    return model(x="FLOAT N 3 2 2")


def save(path, pixels=RGB, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def png_claiming(path, width, height):
    """Write a PNG whose header claims a size and which holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    return path


def only(source):
    (feeds,) = source
    return feeds["x"]


def warned(source):
    return [(warning.code, warning.message) for warning in source.warnings]


def cut_short(path):
    save(path, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:3000])


BAD = [
    (lambda p: png_claiming(p, 60000, 60000), "a.png", f"is far larger than {MAX_PIXELS} pixels"),
    (lambda p: png_claiming(p, 11000, 11000), "a.png", f"is 11000x11000: more than {MAX_PIXELS} pixels"),
    (cut_short, "a.png", "cannot be read: image file is truncated"),
    (lambda p: p.write_text("no image"), "a.jpg", "is not a JPEG, PNG, BMP or WebP image"),
    (lambda p: p.write_bytes(b""), "a.jpeg", "is not a JPEG, PNG, BMP or WebP image"),
    (lambda p: save(p, format="GIF"), "a.png", "is not a JPEG, PNG, BMP or WebP image"),
    (lambda p: png_claiming(p, 2, 2), "a.png", "cannot be read: image file is truncated"),
]


@pytest.mark.row(87)
@pytest.mark.parametrize(("write", "name", "message"), BAD, ids=[message for _, _, message in BAD])
def test_row_87_a_bad_image_is_named(tmp_path, graph, error_of, write, name, message):
    path = tmp_path / name
    write(path)
    error = error_of(lambda: open_data(tmp_path, graph, preprocess="unit"))
    assert error.code == "NNC-D005"
    assert error.message.startswith(f"image {str(path)!r} {message}")
    assert error.where.file == str(path)
    assert error.hint == "--skip-bad 1 (in a recipe skip_bad = 1) would leave it out"


@pytest.mark.row(87)
@pytest.mark.parametrize("side", [11000, 60000])
def test_row_87_a_bomb_is_refused_by_its_header(tmp_path, graph, error_of, monkeypatch, side):
    def load(image):
        raise AssertionError("decoded")

    png_claiming(tmp_path / "a.png", side, side)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    error = error_of(lambda: open_data(tmp_path, graph, preprocess="unit"))
    assert error.code == "NNC-D005"
    assert error.message.endswith(f" is {side}x{side}: more than {MAX_PIXELS} pixels")


@pytest.mark.row(87)
def test_row_87_so_many_bad_images_are_left_out(tmp_path, graph):
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}1.png")
        (tmp_path / f"{name}2.png").write_text("no image")
    source = open_data(tmp_path, graph, preprocess="unit", skip_bad=3)
    assert [numbers for numbers, _ in source.numbered()] == [(0,), (2,), (4,)]
    assert source.counts == {"samples": 3, "bad images": 3}
    assert warned(source) == [("NNC-W045", f"data {str(tmp_path)!r}: 3 images cannot be read and are left out")]
    with pytest.raises(DataError) as caught:
        list(open_data(tmp_path, graph, preprocess="unit", skip_bad=2))
    assert caught.value.message == f"image {str(tmp_path / 'c2.png')!r} is not a JPEG, PNG, BMP or WebP image"
    assert caught.value.hint == "--skip-bad 3 (in a recipe skip_bad = 3) would leave it out"


@pytest.mark.row(87)
def test_row_87_nothing_but_bad_images_is_no_data(tmp_path, graph, error_of):
    (tmp_path / "a.png").write_text("no image")
    error = error_of(lambda: open_data(tmp_path, graph, preprocess="unit", skip_bad=1))
    assert (error.code, error.message) == ("NNC-D004", f"data {str(tmp_path)!r}: no sample is left: 1 bad images")


@pytest.mark.row(87)
def test_row_87_a_long_thin_image_is_not_blown_up(tmp_path, model, error_of):
    path = save(tmp_path / "a.png", Image.new("L", (20000, 1)))
    error = error_of(lambda: open_data(tmp_path, model(x="FLOAT N 3 224 224"), preprocess="imagenet"))
    assert (error.code, error.message) == (
        "NNC-D005",
        f"image {str(path)!r} would be 256x5120000 after resizing: too large",
    )


def sixteen_bits():
    return Image.fromarray(np.array([[0, 65535], [25700, 12850]], np.uint16))


def palette():
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.info["transparency"] = b"\xff\x00"
    return image


CONVERSIONS = [
    ("a.png", sixteen_bits, "I;16 to RGB", [[0, 255], [100, 50]]),
    ("a.png", palette, "P to RGB", [[10, 10], [10, 10]]),
    ("a.png", lambda: Image.fromarray(np.full((2, 2), 7, np.uint8)), "L to RGB", [[7, 7], [7, 7]]),
    ("a.png", lambda: Image.new("1", (2, 2), 1), "1 to RGB", [[255, 255], [255, 255]]),
    ("a.png", lambda: Image.new("RGBA", (2, 2), (9, 8, 7, 0)), "RGBA to RGB", [[9, 9], [9, 9]]),
    ("a.png", lambda: Image.new("LA", (2, 2), (9, 0)), "LA to RGB", [[9, 9], [9, 9]]),
    ("a.jpg", lambda: Image.new("CMYK", (2, 2), (255, 0, 0, 0)), "CMYK to RGB", [[0, 0], [0, 0]]),
]


@pytest.mark.row(87)
@pytest.mark.parametrize(("name", "image", "change", "red"), CONVERSIONS, ids=[row[2] for row in CONVERSIONS])
def test_row_87_modes_are_converted_and_counted(tmp_path, graph, name, image, change, red):
    save(tmp_path / name, image())
    source = open_data(tmp_path, graph, preprocess=IDENTITY)
    np.testing.assert_array_equal(only(source)[0, 0], red)
    assert source.counts == {"samples": 1, change: 1}
    assert ("NNC-W046", f"data {str(tmp_path)!r}: images were converted: 1 {change}") in warned(source)


def test_a_grey_model_gets_grey_images(tmp_path, model):
    save(tmp_path / "a.png", np.array([[0, 100], [200, 255]], np.uint8))
    source = open_data(tmp_path, model(x="FLOAT N 1 2 2"), preprocess=IDENTITY)
    assert only(source).tolist() == [[[[0, 100], [200, 255]]]]
    assert source.counts == {"samples": 1}


@pytest.mark.row(87)
def test_row_87_rotation_is_applied(tmp_path, model):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to see it upright
    save(tmp_path / "a.png", np.array([[0, 100, 200], [50, 150, 250]], np.uint8), exif=exif)
    found = only(open_data(tmp_path, model(x="FLOAT N 1 3 2"), preprocess=IDENTITY))
    assert found[0, 0].tolist() == [[50, 0], [150, 100], [250, 200]]


def test_preprocessing_that_nobody_named_is_a_warning(tmp_path, graph, model):
    save(tmp_path / "a.png")
    source = open_data(tmp_path, graph)
    np.testing.assert_allclose(only(source)[0], RGB.transpose(2, 0, 1) / 255, rtol=1e-6)
    text = "no preprocessing given, so pixels are divided by 255; the numbers must be those of training"
    assert ("NNC-W040", f"data {str(tmp_path)!r}: {text}") in warned(source)
    assert "NNC-W040" not in dict(warned(open_data(tmp_path, graph, preprocess="unit")))
    raw = open_data(tmp_path, model(x="UINT8 N 3 2 2"))
    np.testing.assert_array_equal(only(raw)[0], RGB.transpose(2, 0, 1))
    assert "NNC-W040" not in dict(warned(raw))


@pytest.mark.parametrize(
    ("preset", "low", "high"),
    [("unit", 0, 1), ("tf", -1, 1), ("imagenet", -0.485 / 0.229, (1 - 0.485) / 0.229)],
)
def test_presets(tmp_path, model, preset, low, high):
    save(tmp_path / "a.png", np.zeros((300, 300, 3), np.uint8))
    save(tmp_path / "b.png", np.full((300, 300, 3), 255, np.uint8))
    first, second = open_data(tmp_path, model(x="FLOAT N 3 224 224"), preprocess=preset)
    np.testing.assert_allclose(first["x"][:, 0], low, rtol=1e-6)
    np.testing.assert_allclose(second["x"][:, 0], high, rtol=1e-6)


def test_the_imagenet_preset_is_what_torchvision_does(tmp_path, model):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 451, 3), np.uint8)
    save(tmp_path / "a.png", pixels)
    image = Image.fromarray(pixels).resize((int(256 * 451 / 300), 256), Image.Resampling.BILINEAR)
    left, top = round((image.width - 224) / 2), round((256 - 224) / 2)
    x = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / np.float32(255)
    x = (x - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    found = only(open_data(tmp_path, model(x="FLOAT N 3 224 224"), preprocess="imagenet"))
    np.testing.assert_allclose(found[0], x.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "dims", "fields", "expected"),
    [
        ((50, 100), "N 3 20 20", {}, (1, 3, 20, 20)),  # covered, then cropped
        ((50, 100), "N 3 h w", {}, (1, 3, 50, 100)),
        ((50, 100), "N 3 h w", {"resize": 20}, (1, 3, 20, 40)),
        ((50, 100), "N 3 h w", {"resize": 20, "crop": 16}, (1, 3, 16, 16)),
        ((50, 100), "N 3 h w", {"crop": (10, 12)}, (1, 3, 10, 12)),
        ((50, 100), "N 3 20 30", {"resize": (20, 30)}, (1, 3, 20, 30)),
        ((50, 100), "N 3 20 20", {"resize": 24}, (1, 3, 20, 20)),
        ((50, 100), "N 20 30 3", {}, (1, 20, 30, 3)),
        ((50, 100), "N h w 1", {}, (1, 50, 100, 1)),
        ((50, 100), "N 4 h w", {}, (1, 4, 50, 100)),
        ((50, 100), "a b c d", {}, (1, 3, 50, 100)),
        ((50, 100), "a b c d", {"layout": "NHWC"}, (1, 50, 100, 3)),
        ((50, 100), "*", {}, (1, 3, 50, 100)),
        ((7, 3), "N 3 224 224", {}, (1, 3, 224, 224)),
    ],
)
def test_sizes_and_layout_come_from_the_model(tmp_path, model, shape, dims, fields, expected):
    save(tmp_path / "a.png", np.zeros((*shape, 3), np.uint8))
    assert only(open_data(tmp_path, model(x=f"FLOAT {dims}"), preprocess=Preprocess(**fields))).shape == expected


def test_the_steps_are_taken_in_order(tmp_path, model):
    save(tmp_path / "a.png")
    how = Preprocess(scale=2, mean=(1, 2, 3), std=(1, 2, 4), order="BGR", layout="NHWC")
    found = only(open_data(tmp_path, model(x="FLOAT N 2 2 3"), preprocess=how))
    np.testing.assert_allclose(found[0], (RGB[:, :, ::-1] * 2.0 - [1, 2, 3]) / [1, 2, 4], rtol=1e-6)


def test_integer_inputs_are_rounded_and_clipped(tmp_path, model):
    save(tmp_path / "a.png", np.array([[0, 1], [128, 255]], np.uint8))
    found = only(open_data(tmp_path, model(x="INT8 N 1 2 2"), preprocess=Preprocess(scale=1.1, mean=127.5)))
    assert found.ravel().tolist() == [-128, -126, 13, 127]


def test_uint8_arrays_take_the_same_way_as_images(tmp_path, model):
    graph = model(x="FLOAT N 3 6 6")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 9, 3), np.uint8)
    for number, one in enumerate(pixels):
        save(tmp_path / f"{number}.png", one)
    expected = [feeds["x"] for feeds in open_data(tmp_path, graph, preprocess="unit")]
    for stacked in (pixels, pixels.transpose(0, 3, 1, 2)):
        found = [feeds["x"] for feeds in open_data({"x": stacked}, graph, preprocess="unit")]
        np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    grey = open_data({"x": pixels[..., 0]}, model(x="FLOAT N 1 8 9"), preprocess=IDENTITY)
    np.testing.assert_array_equal(np.concatenate([feeds["x"][:, 0] for feeds in grey]), pixels[..., 0])
    channel = open_data({"x": pixels[..., :1]}, model(x="FLOAT N 8 9 1"), preprocess=IDENTITY)
    np.testing.assert_array_equal(np.concatenate([feeds["x"] for feeds in channel]), pixels[..., :1])


def test_images_fill_a_fixed_batch(tmp_path, model):
    for number in range(5):
        save(tmp_path / f"{number}.png", np.full((2, 2, 3), number, np.uint8))
    source = open_data(tmp_path, model(x="FLOAT 2 3 2 2"), preprocess=IDENTITY)
    assert [feeds["x"][:, 0, 0, 0].tolist() for feeds in source] == [[0, 1], [2, 3]]
    assert source.counts == {"samples": 4, "left over": 1}


MISFITS = [
    (
        {"x": "FLOAT N 3 299 299"},
        {"preset": "imagenet"},
        "preprocess gives images of 224x224, input 'x' is float[N,3,299,299]",
        "in a recipe's [data.preprocess], set crop to the model's height and width, [299, 299], "
        "and resize to a little more",
    ),
    (
        {"x": "FLOAT N 3 20 20"},
        {"resize": (20, 21)},
        "preprocess gives images of 20x21, input 'x' is float[N,3,20,20]",
        "in a recipe's [data.preprocess], set crop to the model's height and width, [20, 20], "
        "and resize to a little more",
    ),
    (
        {"x": "FLOAT N 8 20 20"},
        {},
        "input 'x' is float[N,8,20,20]: images have 1, 3 or 4 channels, not 8",
        "set preprocess.layout if the channels stand elsewhere",
    ),
    (
        {"x": "FLOAT N 1 20 20"},
        {"mean": (1, 2, 3)},
        "preprocess.mean has 3 numbers, input 'x' has 1 channels",
        "",
    ),
    (
        {"x": "FLOAT N 3"},
        {},
        "images fit a model with one input of rank 4; here 'x' is float[N,3]",
        "give an .npz or module:function with all inputs",
    ),
    (
        {"x": "FLOAT N 3 2 2", "y": "INT64 N"},
        {},
        "images fit a model with one input of rank 4; here 'x' is float[N,3,2,2], 'y' is int64[N]",
        "give an .npz or module:function with all inputs",
    ),
]


@pytest.mark.parametrize(("inputs", "fields", "message", "hint"), MISFITS)
def test_preprocessing_that_does_not_fit_the_model_is_refused_at_once(tmp_path, model, inputs, fields, message, hint):
    save(tmp_path / "a.png")
    with pytest.raises(DataError) as caught:
        open_data(tmp_path, model(**inputs), preprocess=Preprocess.model_validate(fields))
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("NNC-D003", message, hint)


def test_an_image_smaller_than_the_crop_is_an_error(tmp_path, model, error_of):
    path = save(tmp_path / "a.png")
    error = error_of(lambda: open_data(tmp_path, model(x="FLOAT N 3 h w"), preprocess=Preprocess(crop=5), skip_bad=9))
    assert error.message == f"image {str(path)!r} is 2x2 after resizing, smaller than the crop 5x5"
    assert (error.code, error.hint) == ("NNC-D003", "set preprocess.resize to at least the crop")


def test_arrays_with_their_channels_elsewhere_are_told_how_to_move_them(model):
    with pytest.raises(DataError) as caught:
        open_data({"x": np.ones((2, 4, 5, 3), np.float32)}, model(x="FLOAT N 3 4 5"))
    assert caught.value.hint.startswith("the channels seem to stand last: x.transpose(0, 3, 1, 2) moves them\n")


def test_preprocessing_for_arrays_that_are_no_images_is_refused(model):
    with pytest.raises(DataError) as caught:
        open_data({"x": np.ones((2, 3, 4, 4), np.float32)}, model(x="FLOAT N 3 4 4"), preprocess="unit")
    assert caught.value.message == "data: input 'x': expected float[N,3,4,4], got float[2,3,4,4]"
    assert caught.value.hint.startswith("preprocessing is for images in uint8\n")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("inception", "unknown preset 'inception', expected one of imagenet, tf, unit"),
        ("imgnet", "expected one of imagenet, tf, unit: did you mean 'imagenet'?"),
        ({"preset": ["unit"]}, "unknown preset ['unit'], expected one of imagenet, tf, unit"),
        ({"std": 0}, "std must not be zero"),
        ({"std": (1, 0, 1)}, "std must not be zero"),
        ({"resize": 0}, "greater than or equal to 1"),
        ({"resize": (1, 2, 3)}, "at most 2 items"),
        ({"scale": float("nan")}, "finite number"),
        ({"scale": "1"}, "valid number"),
        ({"size": 3}, "not permitted"),
        (3, "valid dictionary"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match="validation error") as caught:
        Preprocess.model_validate(fields)
    assert message in str(caught.value)


def test_a_preset_can_be_changed_and_a_dump_is_read_again():
    how = Preprocess.model_validate({"preset": "imagenet", "crop": 299, "resize": 342})
    assert (how.crop, how.resize, how.mean) == (299, 342, PRESETS["imagenet"]["mean"])
    assert Preprocess.model_validate(how.model_dump(mode="json", exclude_defaults=True)) == how


def test_images_are_found_sorted_and_hidden_ones_are_not(tmp_path, graph):
    for name in ("b/2.PNG", "b/10.png", "a/x.jpg", "c.bmp", "a/deep/y.webp", ".git/z.png", "a/._x.jpg"):
        save(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("")
    (tmp_path / "d.png").mkdir()
    os.mkfifo(tmp_path / "e.png")
    found = [path.relative_to(tmp_path).as_posix() for path in ImageSource(tmp_path, graph).files]
    assert found == ["a/deep/y.webp", "a/x.jpg", "b/10.png", "b/2.PNG", "c.bmp"]


def test_a_limit_takes_images_of_all_folders(tmp_path, graph):
    for folder in "abc":
        for number in range(4):
            save(tmp_path / folder / f"{number}.png")
    source = open_data(tmp_path, graph, preprocess="unit", limit=3)
    files = source.source.files
    assert [files[number].parent.name for (number,), _ in source.numbered()] == ["a", "b", "c"]
    assert source.size == 3
    assert open_data(tmp_path, graph, preprocess="unit", limit=99).size == 12


def test_evenly_spaced_means_each_once():
    assert evenly(10, 4) == [0, 2, 5, 7]
    assert evenly(3, 3) == evenly(3, 9) == [0, 1, 2]


def test_one_image_is_data_too(tmp_path, graph):
    path = save(tmp_path / "a.png")
    assert only(open_data(path, graph, preprocess="unit")).shape == (1, 3, 2, 2)


def test_a_folder_without_images_is_named(tmp_path, graph):
    with pytest.raises(DataError) as caught:
        ImageSource(tmp_path, graph)
    assert caught.value.message == f"data {str(tmp_path)!r} holds no images"
    assert caught.value.hint == "looked for .bmp, .jpeg, .jpg, .png, .webp"


def test_a_fingerprint_follows_names_pixels_and_preprocessing(tmp_path, graph):
    for name in ("one/a.png", "two/a.png"):
        save(tmp_path / name)

    def digest(folder, **options):
        return open_data(tmp_path / folder, graph, **options).fingerprint()

    assert digest("one", preprocess="unit") == digest("two", preprocess="unit")
    assert digest("one", preprocess="unit") != digest("one", preprocess="tf")
    save(tmp_path / "two/b.png")
    assert digest("one", preprocess="unit") != digest("two", preprocess="unit")
