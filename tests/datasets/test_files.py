"""Files in the data folder: every way to write them is read, damage is told in one line."""

import gzip
import hashlib
import re

import hypothesis
import numpy as np
import pytest
from damage import EDITS, damage_settings, damaged
from zoo import complaint

from gadam import InputError
from gadam.datasets import SOURCES, load, locate, verify

HTML = b"<!DOCTYPE html><html><body>Not here</body></html>\n"


def pixels(content):
    return content[-112 * 92 :]


def plain_graymap(content):
    """A face as text."""
    values = np.frombuffer(pixels(content), "u1").reshape(112, 92)
    rows = "\n".join(" ".join(map(str, row)) for row in values.tolist())
    return b"P2\n# plain\n92 112\n255 # white\n" + rows.encode()


# A dataset, and how a file of it may be named and written otherwise.
WAYS = {
    "plain": ("mnist", lambda file, content: (file, content)),
    "gzip": ("mnist", lambda file, content: (f"{file}.gz", gzip.compress(content, 1))),
    "a dot": ("mnist", lambda file, content: (file.replace("-idx", ".idx"), content)),
    "a dot and gzip": (
        "mnist",
        lambda file, content: (f"{file.replace('-idx', '.idx')}.gz", gzip.compress(content, 1)),
    ),
    "decompressed by a browser that keeps the name": ("mnist", lambda file, content: (f"{file}.gz", content)),
    "header on one line": ("orl", lambda file, content: (file, b"P5 92 112 255 " + pixels(content))),
    "comments": ("orl", lambda file, content: (file, b"P5\n# XV 3.10\n92 112 # wide\n255\n" + pixels(content))),
    "P2": ("orl", lambda file, content: (file, plain_graymap(content) if file.startswith("s1/") else content)),
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


def header(text):
    return lambda content: text + pixels(content)


DAMAGE = [
    ("adult", "adult.test", lambda content: content[:-1], "adult.test has wrong contents: SHA-256"),
    ("yeast", "yeast.data", lambda content: HTML, "(an HTML page)"),
    ("yeast", "yeast.data", lambda content: bytes(2**26 + 1), "more than 67,108,864 bytes"),
    ("yeast", "yeast.data", lambda content: gzip.compress(bytes(2**26 + 1), 1), "unpacks to more than"),
    ("mnist", "t10k-labels-idx1-ubyte", lambda content: gzip.compress(content)[:-9], "damaged gzip file"),
    ("orl", "s7/3.pgm", lambda content: content[:-1], "s7/3.pgm must be a PGM image"),
    ("orl", "s7/3.pgm", lambda content: content[:-1] + b"?", "one of s1/1.pgm to s40/10.pgm"),
    ("orl", "s7/3.pgm", header(b"P5\n112 92\n255\n"), "112 pixels wide and 92 high"),
    ("orl", "s7/3.pgm", header(b"P5\n92 112\n1\n"), "has wrong contents"),
    ("orl", "s7/3.pgm", header(b"P5\n99999 99999\n255\n"), "s7/3.pgm must be a PGM image"),
]


@pytest.mark.parametrize(("name", "file", "damage", "words"), DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_file_is_named_and_never_replaced_by_a_stand_in(name, file, damage, words, publish, put, tmp_path):
    contents = publish(name)
    folder = put(name, contents | {file: damage(contents[file])})
    for door in (verify, load, locate):
        message = complaint(door, name, folder=tmp_path)
        assert message.startswith(f"{name}: ")
        assert all(word in message for word in (words, str(folder), f"'gadam data fetch {name}'"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("name", "file"), [("yeast", "yeast.data"), ("orl", "s7/3.pgm"), ("mnist", "t10k-labels.gz")])
def test_whatever_the_damage_it_is_refused_in_one_line(name, file, publish, put, tmp_path):
    contents = publish(name)
    file, packed = file.replace("labels.gz", "labels-idx1-ubyte"), file.endswith(".gz")
    whole = gzip.compress(contents[file]) if packed else contents[file]
    folder = put(name, contents)

    @damage_settings
    @hypothesis.given(EDITS)
    def check(edits):
        candidate = damaged(whole, edits)
        hypothesis.assume(candidate != whole)
        (folder / file).write_bytes(candidate)
        message = f"{name}: what is not looked at: the header of an image, the flags of a compressed file"
        try:
            assert verify(name, tmp_path).hash == SOURCES[name].hash
            assert packed or file.endswith(".pgm")
        except InputError as error:
            message = str(error)
        assert re.fullmatch(f"{name}: .{{1,500}}", message)

    check()


def test_what_is_missing_or_in_the_way_is_named(publish, put, tmp_path):
    (tmp_path / "mnist").mkdir()
    folder = put("adult", {"adult.data": publish("adult")["adult.data"]})
    (tmp_path / "yeast").write_bytes(b"")
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "letter-recognition.data").symlink_to("nothing")
    for name, said in (
        ("mnist", f"mnist: not in {tmp_path / 'MNIST' / 'raw'}; run 'gadam data fetch mnist'"),
        ("adult", f"{folder} lacks adult.test (1 of 2 files are there)"),
        ("yeast", f"{tmp_path / 'yeast'} cannot be read: Not a directory; make it a folder"),
        ("letter", "is no file (a folder, or a link to nothing); remove it"),
    ):
        assert said in complaint(verify, name, tmp_path)


def test_files_are_verified_again_when_one_has_changed_and_only_then(publish, put, tmp_path, monkeypatch):
    contents, hashed, sha256 = publish("yeast"), [], hashlib.sha256
    path, elsewhere = put("yeast", contents) / "yeast.data", tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)  # a link will do
    monkeypatch.setattr(hashlib, "sha256", lambda *given: hashed.append(1) or sha256(*given))
    assert verify("yeast", tmp_path) == locate("yeast", folder=tmp_path) == verify("yeast", tmp_path)
    assert len(hashed) == 1
    for other in (contents["yeast.data"][:-2] + b"?\n", contents["yeast.data"] + b"\n"):  # of the same size, and larger
        path.write_bytes(other)
        with pytest.raises(InputError, match="wrong contents"):
            verify("yeast", tmp_path)
