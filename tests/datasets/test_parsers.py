import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gadam import InputError
from gadam.datasets import archives
from gadam.datasets.archives import gunzip, unzip
from gadam.datasets.idx import read_idx, write_idx
from gadam.datasets.pgm import read_pgm, write_pgm
from gadam.datasets.registry import SOURCES
from gadam.datasets.tables import FORMATS, read_table

PIXELS = np.array([[0, 35, 255], [10, 32, 9]], np.uint8)  # 35 is "#", 10, 32 and 9 are white space
RASTER = PIXELS.tobytes()
IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
ADULT = b"39, Private, 77516, Bachelors, 13, Never-married, ?, Husband, White, Male, 2174, 0, 40, Cuba, "
LETTER = b"T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,8\n"
YEAST = b"ADT1_YEAST  0.58  0.61  0.47  0.13  0.50  0.00  0.48  0.22  MIT\n"
HTML = b"<!DOCTYPE html><html><body>Not here</body></html>\n"
fuzzed = settings(max_examples=60, deadline=None)


def archive(method=zipfile.ZIP_DEFLATED, /, **members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def table(data, name):
    return read_table(data, FORMATS[name], SOURCES[name].classes, "the file")


@pytest.mark.parametrize(
    "data",
    [
        b"P5 3 2 255 " + RASTER,
        b"P5\n3 2\n255\n" + RASTER,
        b"P5\n3\n2\n255\n" + RASTER,
        b"P5\n# CREATOR: XV 3.10\n3 2 # width, height\n# 1 1\n255\n" + RASTER,
        b"P2\n3 2\n255\n0 35 255\n10 32 9\n",
        b"P2 3 2 255 0 35 255 10 32 9",
        b"P2\n# made by hand\n3 2\n255\n0 35 255 # first row\n10 32\n9",
    ],
)
def test_every_way_to_write_a_graymap(data):
    assert np.array_equal(read_pgm(data), PIXELS)


def test_a_graymap_that_is_written_is_read_again():
    assert np.array_equal(read_pgm(write_pgm(PIXELS)), PIXELS)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "does not begin as a PGM"),
        (HTML, "does not begin as a PGM"),
        (b"P6\n3 2\n255\n" + RASTER, "does not begin as a PGM"),
        (b"P5\n3 2\n255\n" + RASTER[:-1], r"has 5 pixels, its header says 3 x 2"),
        (b"P5\n3 2\n255\n" + RASTER + b"\n", r"has 7 pixels"),
        (b"P5\n3 0\n255\n", "must be positive"),
        (b"P5\n3 2\n254\n" + RASTER, "from 0 to 254"),
        (b"P5\n3 2\n1\n" + RASTER, "from 0 to 1"),
        (b"P5\n3 2\n65535\n" + RASTER, "at most 255"),
        (b"P2\n3 2\n255\n0 35 255 10 32", "has 5 pixels"),
        (b"P2\n3 2\n255\n0 35 256 10 32 9", "from 0 to 255"),
        (b"P2\n3 2\n255\n0 35 -1 10 32 9", "from 0 to 255"),
        (b"P2\n3 2\n255\n0 35 2551 10 32 9", "from 0 to 255"),
        (b"P2\n3 2\n255\n0 35 01032 10 32 9", "from 0 to 255"),
    ],
)
def test_a_damaged_graymap_is_refused(data, complaint):
    with pytest.raises(InputError, match=complaint) as refusal:
        read_pgm(data, "s1/1.pgm")
    assert str(refusal.value).startswith("s1/1.pgm")


def test_idx_files_are_read_through_torchvision():
    assert read_idx(write_idx(IMAGES), 3).numpy().tolist() == IMAGES.tolist()
    assert read_idx(write_idx(np.array([3, 1, 2], np.uint8)), 1).tolist() == [3, 1, 2]


def test_the_magic_numbers_are_those_of_mnist():
    assert struct.unpack(">I", write_idx(IMAGES)[:4]) == (2051,)
    assert struct.unpack(">I", write_idx(IMAGES[0, 0])[:4]) == (2049,)


@pytest.mark.parametrize(
    ("data", "dimensions", "complaint"),
    [
        (b"", 3, "magic 2051"),
        (HTML, 3, "magic 2051"),
        (write_idx(IMAGES), 1, "magic 2049"),
        (write_idx(IMAGES)[:-1], 3, r"holds 23 bytes of data, its header says \[2, 3, 4\]"),
        (write_idx(IMAGES) + b"\0", 3, "holds 25 bytes"),
        (write_idx(IMAGES)[:9], 3, "its header says"),
        (write_idx(IMAGES[:0]), 3, "holds 0 bytes"),
    ],
)
def test_a_damaged_idx_file_is_refused(data, dimensions, complaint):
    with pytest.raises(InputError, match=complaint):
        read_idx(data, dimensions, "train-images-idx3-ubyte")


def test_yeast_rows_have_runs_of_spaces_and_a_name_that_is_dropped():
    features, targets = table(YEAST + b"\nX_YEAST 0.1 0.2   0.3 0.4 0.5 0.6 0.7 0.8 CYT\r\n", "yeast")
    assert list(features) == ["mcg", "gvh", "alm", "mit", "erl", "pox", "vac", "nuc"]
    assert features.to_numpy()[1] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert [SOURCES["yeast"].classes[target] for target in targets] == ["MIT", "CYT"]


def test_adult_test_has_a_comment_and_full_stops_and_question_marks_stay():
    features, targets = table(b"|1x3 Cross validator\n" + ADULT + b"<=50K.\n" + ADULT + b">50K\n\n", "adult")
    assert targets.tolist() == [0, 1]
    assert list(features)[:6] == ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    assert features["occupation"].tolist() == ["?", "?"]
    assert features["age"].tolist() == [39, 39]


def test_letter_rows_begin_with_the_label():
    features, targets = table(LETTER, "letter")
    assert targets.tolist() == [19]
    assert features.to_numpy().tolist() == [[2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8]]


@pytest.mark.parametrize(
    ("data", "name", "complaint"),
    [
        (b"", "letter", "the file has no rows"),
        (HTML, "letter", "line 1: 1 fields, expected 17"),
        (LETTER + b"\n" + LETTER[:20], "letter", "line 3: 10 fields"),
        (LETTER.replace(b"13", b"many"), "letter", "line 1: y-bar is 'many', must be a finite number"),
        (LETTER.replace(b"13", b"nan"), "letter", "must be a finite number"),
        (LETTER.replace(b"13", b"inf"), "letter", "must be a finite number"),
        (LETTER.replace(b"13", b""), "letter", "must be a finite number"),
        (LETTER.replace(b"T", b"t"), "letter", "line 1: class 't' is not one of A, B"),
        (LETTER.replace(b"T", b"T" * 99), "letter", "line 1: class 'T{40}' is not one of A, B"),
        (LETTER.replace(b"13", b"\0" * 999), "letter", r"line 1: y-bar is '(\\x00){40}', must be"),
        (LETTER.replace(b"T", b"\xff"), "letter", "byte 0 is 0xff"),
        (ADULT + b"<=60K.\n", "adult", "class '<=60K.' is not one of"),
    ],
)
def test_a_damaged_table_is_refused_by_line(data, name, complaint):
    with pytest.raises(InputError, match=complaint):
        table(data, name)


def test_what_is_not_compressed_passes_as_it_is():
    assert gunzip(b"plain") == b"plain"
    assert gunzip(gzip.compress(b"plain")) == b"plain"


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:12], lambda data: data[:-6] + bytes(6)])
def test_a_truncated_or_damaged_gzip_file_is_refused(damage):
    with pytest.raises(InputError, match="labels is a damaged gzip file"):
        gunzip(damage(gzip.compress(bytes(range(256)) * 9)), "labels")


def test_an_archive_may_have_a_top_folder():
    files = ("s1/1.pgm", "s11/1.pgm")
    members = {"faces/s11/1.pgm": b"eleven", "faces/s1/1.pgm": b"one", "faces/README": b"", "x/faces/s1/1.pgm": b"no"}
    assert unzip(archive(**members), files) == {"s1/1.pgm": b"one", "s11/1.pgm": b"eleven"}
    assert unzip(archive(**{"s1/1.pgm": b"one"}), files[:1]) == {"s1/1.pgm": b"one"}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not an intact zip archive"),
        (HTML, "not an intact zip archive"),
        (archive(**{"adult.names": b"words", "old.adult.data": b""}), "has no adult.data"),
        (archive(**{"adult.data": bytes(999)})[:-30], "not an intact zip archive"),
        (archive(**{"adult.data": ADULT})[:45] + b"?????" + archive(**{"adult.data": ADULT})[50:], "not an intact zip"),
    ],
    ids=["empty", "a page", "without the file", "truncated", "damaged"],  # an archive has the time in it
)
def test_a_wrong_archive_is_refused(data, complaint):
    with pytest.raises(InputError, match=complaint):
        unzip(data, ("adult.data",))


def refusal(parse, data):
    """What a parser says against some bytes; nothing if it takes them."""
    try:
        parse(data)
    except InputError as error:
        return str(error)
    return ""


PARSERS = {
    "pgm": (read_pgm, [b"P5 3 2 255 " + RASTER, b"P2\n3 2\n255\n0 35 255\n10 32 9\n"]),
    "images": (lambda data: read_idx(data, 3), [write_idx(IMAGES)]),
    "labels": (lambda data: read_idx(data, 1), [write_idx(IMAGES[0, 0])]),
    "yeast": (lambda data: table(data, "yeast"), [YEAST * 2]),
    "adult": (lambda data: table(data, "adult"), [ADULT + b">50K.\n"]),
    "letter": (lambda data: table(data, "letter"), [LETTER * 2]),
    "gzip": (gunzip, [gzip.compress(YEAST * 9)]),
    "zip": (lambda data: unzip(data, ("adult.data",)), [archive(**{"adult.data": ADULT * 9})]),
}


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@fuzzed
def test_whatever_the_bytes_a_parser_answers_or_refuses_in_one_line(name, data):
    parse, examples = PARSERS[name]
    example = bytearray(data.draw(st.sampled_from(examples)))
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, len(example) - 1), st.integers(0, 255)))):
        example[position] = value
    shorter = bytes(example[: data.draw(st.integers(0, len(example)))])
    longer = bytes(example) + data.draw(st.binary(max_size=30))
    for candidate in (shorter, longer, data.draw(st.binary(max_size=300))):
        message = refusal(parse, candidate)
        assert len(message.splitlines()) <= 1
        assert len(message) < 400


def linked(target):
    """An archive with a symbolic link in the place of the file, as `zip --symlinks` writes it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        link = zipfile.ZipInfo("adult.data")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        file.writestr(link, target)
    return stream.getvalue()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret"])
def test_a_link_in_an_archive_is_never_followed(target):
    assert unzip(linked(target), ("adult.data",)) == {"adult.data": target.encode()}  # which is not the file, see files


def test_a_gzip_bomb_is_given_up_at_the_limit(monkeypatch):
    monkeypatch.setattr(archives, "LIMIT", 1_000)
    assert gunzip(gzip.compress(bytes(1_000))) == bytes(1_000)
    with pytest.raises(InputError, match=r"^labels unpacks to more than 1,000 bytes"):
        gunzip(gzip.compress(bytes(1_001)), "labels")


def test_a_bomb_of_many_parts_is_given_up_at_the_limit_too(monkeypatch):
    monkeypatch.setattr(archives, "LIMIT", 1_000)
    with pytest.raises(InputError, match="unpacks to more than"):
        gunzip(9 * gzip.compress(bytes(200)))


def test_a_zip_bomb_is_refused_by_what_it_says_and_unpacked_no_further(monkeypatch):
    monkeypatch.setattr(archives, "LIMIT", 1_000)
    whole = archive(**{"adult.data": bytes(1_001)})
    with pytest.raises(InputError, match=r"^archive unpacks to more than 1,000 bytes"):
        unzip(whole, ("adult.data",))
    liar = whole.replace(struct.pack("<I", 1_001), struct.pack("<I", 10))
    with pytest.raises(InputError, match="not an intact zip archive"):
        unzip(liar, ("adult.data",))


def test_a_member_that_says_too_little_takes_no_memory():
    size = 2**26
    liar = archive(**{"adult.data": bytes(size)}).replace(struct.pack("<I", size), struct.pack("<I", 10))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="not an intact zip archive"):
            unzip(liar, ("adult.data",))
        assert tracemalloc.get_traced_memory()[1] < size / 50
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_of_many_files_is_refused(monkeypatch):
    monkeypatch.setattr(archives, "LIMIT", 1_000)
    files = {f"s1/{image}.pgm": bytes(400) for image in range(1, 4)}
    assert unzip(archive(**files), tuple(files)[:2]) == dict(list(files.items())[:2])
    with pytest.raises(InputError, match=r"^archive unpacks to more than 1,000 bytes"):
        unzip(archive(**files), tuple(files))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_zipfile_would_unpack_all_at_once_is_not_unpacked(method, monkeypatch):
    packed = archive(method, **{"adult.data": ADULT})
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(InputError, match=rf"^archive holds adult\.data compressed by method {method}, not by deflate$"):
        unzip(packed, ("adult.data",))


def test_the_limit_is_above_what_the_datasets_hold():
    assert max(60_000 * 28 * 28 + 16, 4 * 10**6) < archives.LIMIT


@pytest.mark.parametrize("size", [2**16, 2**31, 2**32 - 1])
def test_a_header_that_promises_the_world_allocates_nothing(size):
    with pytest.raises(InputError, match="its header says"):
        read_idx(struct.pack(">4I", 2051, size, size, size) + bytes(100), 3)
    with pytest.raises(InputError, match="has 9 pixels"):
        read_pgm(b"P5\n99999 99999\n255\n" + bytes(9))
