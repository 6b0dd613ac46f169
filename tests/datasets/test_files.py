"""Files in the data folder, and their parsers: every way to write them is read, damage is told in one line."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gadam import InputError
from gadam.datasets import SOURCES, files, load, locate, verify
from gadam.datasets.parsers import FACE, gunzip, read_face, read_idx, read_table, write_face, write_idx

FACES = np.random.default_rng(0).integers(0, 256, FACE).astype(np.uint8)
IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
ADULT = b"39, Private, 77516, Bachelors, 13, Never-married, ?, Husband, White, Male, 2174, 0, 40, Cuba, "
LETTER = b"T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,8\n"
YEAST = b"ADT1_YEAST  0.58  0.61  0.47  0.13  0.50  0.00  0.48  0.22  MIT\n"
HTML = b"<!DOCTYPE html><html><body>Not here</body></html>\n"


def plain_graymap(pixels):
    return b"P2\n# plain\n92 112\n255 # white\n" + b"\n".join(
        b" ".join(b"%d" % value for value in row) for row in pixels
    )


def test_the_folder_is_the_given_one_else_of_the_environment_else_of_the_project(monkeypatch, tmp_path):
    monkeypatch.setenv("GADAM_DATA", str(tmp_path))
    assert files.data_folder("elsewhere").name == "elsewhere"
    assert files.data_folder() == tmp_path
    monkeypatch.delenv("GADAM_DATA")
    assert files.data_folder().name == "data"
    assert (files.data_folder().parent / "gadam").is_dir()


def dotted(file):
    return file.replace("-idx", ".idx")


# A dataset, and how a file of it may be named and written otherwise.
WAYS = {
    "plain": ("mnist", lambda file, content: (file, content)),
    "gzip": ("mnist", lambda file, content: (f"{file}.gz", gzip.compress(content, 1))),
    "a dot": ("mnist", lambda file, content: (dotted(file), content)),
    "a dot and gzip": ("mnist", lambda file, content: (f"{dotted(file)}.gz", gzip.compress(content, 1))),
    "decompressed by a browser that keeps the name": ("mnist", lambda file, content: (f"{file}.gz", content)),
    "header on one line": ("orl", lambda file, content: (file, b"P5 92 112 255 " + content[-10_304:])),
    "comments": ("orl", lambda file, content: (file, b"P5\n# XV 3.10\n92 112 # wide\n255\n" + content[-10_304:])),
    "P2": ("orl", lambda file, content: (file, plain_graymap(np.frombuffer(content[-10_304:], "u1").reshape(FACE)))),
    "in a top folder": ("orl", lambda file, content: (f"att_faces/{file}", content)),
    "line ends of Windows": ("adult", lambda file, content: (file, content.replace(b"\n", b"\r\n"))),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_that_the_files_come_in(way, publish, put, tmp_path):
    name, rewrite = WAYS[way]
    contents = publish(name)
    put(name, dict(rewrite(file, content) for file, content in contents.items()))
    located = verify(name, tmp_path)
    assert located.hash == SOURCES[name].hash
    assert located.path == tmp_path / SOURCES[name].folder / ("att_faces" if "top folder" in way else "")


def test_a_link_to_the_right_file_will_do(publish, put, tmp_path):
    folder = put("yeast", publish("yeast"))
    (folder / "yeast.data").rename(tmp_path / "elsewhere")
    (folder / "yeast.data").symlink_to(tmp_path / "elsewhere")
    assert verify("yeast", tmp_path).source == "real"


def header(text):
    return lambda content: text + content[-10_304:]


DAMAGE = [
    ("adult", "adult.test", lambda content: content[:-1], "adult.test has wrong contents: SHA-256"),
    ("yeast", "yeast.data", lambda content: HTML, "(an HTML page)"),
    ("yeast", "yeast.data", lambda content: bytes(2**26 + 1), "more than 67,108,864 bytes"),
    ("yeast", "yeast.data", lambda content: gzip.compress(bytes(2**26 + 1), 1), "unpacks to more than"),
    ("letter", "letter-recognition.data", lambda content: content[:99] + b"?" + content[100:], "expected"),
    ("mnist", "t10k-labels-idx1-ubyte", lambda content: gzip.compress(content)[:-9], "damaged gzip file"),
    ("orl", "s7/3.pgm", lambda content: content[:-1], "s7/3.pgm must be a PGM image"),
    ("orl", "s7/3.pgm", lambda content: content[:-1] + b"?", "one of s1/1.pgm to s40/10.pgm"),
    ("orl", "s40/9.pgm", lambda content: HTML, "s40/9.pgm must be a PGM image"),
    ("orl", "s7/3.pgm", header(b"92 112\n255\n"), "s7/3.pgm must be a PGM image"),
    ("orl", "s7/3.pgm", header(b"P5\n112 92\n255\n"), "is L, 112 pixels wide and 92 high"),
    ("orl", "s7/3.pgm", header(b"P5\n1 10304\n255\n"), "is L, 1 pixels wide"),
    ("orl", "s7/3.pgm", header(b"P5\n92 112\n1\n"), "has wrong contents"),
    ("orl", "s7/3.pgm", header(b"P5\n99999 99999\n255\n"), "s7/3.pgm must be a PGM image"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "damage", "words"), DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_file_is_named_and_never_replaced_by_a_stand_in(name, file, damage, words, publish, put, tmp_path):
    contents = publish(name)
    folder = put(name, contents | {file: damage(contents[file])})
    for door in (
        verify,
        lambda *where: load(where[0], folder=where[1]),
        lambda *where: locate(where[0], folder=where[1]),
    ):
        with pytest.raises(InputError) as refused:
            door(name, tmp_path)
        message = str(refused.value)
        assert message.startswith(f"{name}: ")
        assert all(word in message for word in (words, str(folder), f"'gadam data fetch {name}'"))
        assert "\n" not in message


def test_what_is_missing_or_in_the_way_is_named(publish, put, tmp_path):
    def refusal(name):
        with pytest.raises(InputError) as refused:
            verify(name, tmp_path)
        return str(refused.value)

    (tmp_path / "mnist").mkdir()
    assert refusal("mnist") == f"mnist: not in {tmp_path / 'MNIST' / 'raw'}; run 'gadam data fetch mnist'"
    folder = put("adult", {"adult.data": publish("adult")["adult.data"]})
    assert f"{folder} lacks adult.test (1 of 2 files are there)" in refusal("adult")
    (tmp_path / "yeast").write_bytes(b"")
    assert f"{tmp_path / 'yeast'} cannot be read: Not a directory; make it a folder" in refusal("yeast")
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "letter-recognition.data").symlink_to("nothing")
    assert "is no file (a folder, or a link to nothing); remove it" in refusal("letter")


def test_files_are_verified_again_when_one_has_changed_and_only_then(publish, put, tmp_path, monkeypatch):
    contents = publish("yeast")
    put("yeast", contents)
    reads = []
    monkeypatch.setattr(files, "gunzip", lambda data, where: reads.append(where) or data)
    assert verify("yeast", tmp_path) == locate("yeast", folder=tmp_path) == verify("yeast", tmp_path)
    assert len(reads) == 1
    put("yeast", {"yeast.data": contents["yeast.data"] + b"\n"})
    with pytest.raises(InputError, match="wrong contents"):
        verify("yeast", tmp_path)


@pytest.mark.parametrize("door", [verify, load, locate])
def test_a_file_that_vanishes_once_it_was_found_is_named(door, publish, put, tmp_path, monkeypatch):
    gone = put("yeast", publish("yeast")) / "yeast.data"
    monkeypatch.setattr(files, "find", lambda name, root: gone.unlink(missing_ok=True) or {"yeast.data": gone})
    with pytest.raises(InputError, match=r"^yeast: yeast\.data cannot be read: No such file or directory; replace it"):
        door("yeast", folder=tmp_path)


# --- parsers ---


def test_a_face_that_is_written_is_read_again_and_so_is_a_plain_one():
    for content in (write_face(FACES), plain_graymap(FACES)):
        np.testing.assert_array_equal(read_face(content, "face"), FACES)


def test_idx_files_have_the_magic_numbers_of_mnist_and_their_shape():
    images, labels = struct.pack(">4I", 2051, 2, 3, 4) + bytes(range(24)), struct.pack(">2I", 2049, 4) + bytes(range(4))
    assert (write_idx(IMAGES), write_idx(IMAGES[0, 0])) == (images, labels)
    assert read_idx(images, 3, "file").tolist() == IMAGES.tolist()
    assert read_idx(labels, 1, "file").tolist() == [0, 1, 2, 3]


def test_tables_are_read_as_they_are_written():
    features, targets = read_table("yeast", YEAST + b"\nX_YEAST 0.1 0.2   0.3 0.4 0.5 0.6 0.7 0.8 CYT\r\n", "file")
    assert list(features) == ["mcg", "gvh", "alm", "mit", "erl", "pox", "vac", "nuc"]  # without the name of a sequence
    assert features.to_numpy()[1] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert [SOURCES["yeast"].classes[target] for target in targets] == ["MIT", "CYT"]
    comment = b"|1x3 Cross validator\n"
    features, targets = read_table("adult", comment + ADULT + b"<=50K.\n" + ADULT + b">50K\n\n", "file")
    assert targets.tolist() == [0, 1]
    assert list(features)[:6] == ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    assert features["occupation"].tolist() == ["?", "?"]
    assert features["age"].tolist() == [39, 39]
    features, targets = read_table("letter", LETTER, "file")
    assert targets.tolist() == [19]
    assert features.to_numpy().tolist() == [[2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8]]


WRONG = {
    "letter": [
        b"", HTML, LETTER + LETTER[:20], LETTER + LETTER[:-1] + b",1\n", LETTER[:-1] + b",1\n",
        *(LETTER.replace(b"13", value) for value in (b"many", b"nan", b"inf", b"")),
        *(LETTER.replace(b"T", value) for value in (b"t", b"\xff", b"TT")),
    ],
    "adult": [ADULT + b"<=60K.\n", ADULT],
    "images": [b"", HTML, write_idx(IMAGES[0, 0]), write_idx(IMAGES)[:-1], write_idx(IMAGES) + b"\0",
               write_idx(IMAGES)[:9], write_idx(IMAGES[:0]), struct.pack(">4I", 2051, *3 * [2**32 - 1])],
    "face": [b"", HTML, write_face(FACES)[:-1], write_face(FACES).replace(b"P5", b"P6"), plain_graymap(FACES)[:-9],
             write_face(FACES).replace(b"255", b"65535"), plain_graymap(FACES).replace(b" 255 ", b" 256 ")],
    "gzip": [gzip.compress(YEAST * 9)[:-9], gzip.compress(YEAST * 9)[:12], gzip.compress(YEAST * 9)[:-6] + bytes(6)],
}  # fmt: skip
PARSERS = {
    "face": (lambda data: read_face(data, "the file"), write_face(FACES)),
    "images": (lambda data: read_idx(data, 3, "the file"), write_idx(IMAGES)),
    "labels": (lambda data: read_idx(data, 1, "the file"), write_idx(IMAGES[0, 0])),
    "yeast": (lambda data: read_table("yeast", data, "the file"), YEAST * 2),
    "adult": (lambda data: read_table("adult", data, "the file"), ADULT + b">50K.\n"),
    "letter": (lambda data: read_table("letter", data, "the file"), LETTER * 2),
    "gzip": (lambda data: gunzip(data, "the file"), gzip.compress(YEAST * 9)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused(name):
    for data in WRONG[name]:
        with pytest.raises(InputError, match=r"^the file"):
            PARSERS[name][0](data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_the_bytes_a_parser_answers_or_refuses_in_one_line(name, data):
    parse, example = PARSERS[name]
    changed = bytearray(example)
    places = st.tuples(st.integers(0, min(len(example), 400) - 1), st.integers(0, 255))
    for position, value in data.draw(st.lists(places)):
        changed[position] = value
    cut = data.draw(st.integers(0, len(example)))
    for candidate in (
        bytes(changed),
        bytes(changed[:cut]),
        bytes(changed) + b"\0?",
        data.draw(st.binary(max_size=300)),
    ):
        message = "it is parsed"
        try:
            parse(candidate)
        except InputError as error:
            message = str(error)
        assert len(message.splitlines()) == 1
        assert len(message) < 400
