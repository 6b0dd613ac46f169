import gzip
import hashlib
import shutil
import sys

import pytest

from gadam import InputError, cli
from gadam.datasets import files, load, locate, verify
from gadam.datasets.pgm import read_pgm
from gadam.datasets.standins import standin


def refusal(name, folder):
    with pytest.raises(InputError) as refused:
        verify(name, folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_folder_is_the_given_one_else_of_the_environment_else_of_the_project(monkeypatch, tmp_path):
    monkeypatch.setenv("GADAM_DATA", str(tmp_path))
    assert files.data_folder("elsewhere").name == "elsewhere"
    assert files.data_folder() == tmp_path
    monkeypatch.delenv("GADAM_DATA")
    assert files.data_folder().name == "data"
    assert (files.data_folder().parent / "gadam").is_dir()


@pytest.mark.parametrize(
    "rename",
    [
        lambda file, content: (file, content),
        lambda file, content: (f"{file}.gz", gzip.compress(content, 1)),
        lambda file, content: (file.replace("-idx", ".idx"), content),
        lambda file, content: (f"{file.replace('-idx', '.idx')}.gz", gzip.compress(content, 1)),
        lambda file, content: (f"{file}.gz", content),  # a browser decompresses and keeps the name
    ],
)
def test_every_name_that_mnist_files_go_by(rename, publish, put, tmp_path):
    contents = publish("mnist")
    put("mnist", dict(rename(file, content) for file, content in contents.items()))
    assert verify("mnist", tmp_path).hash == standin("mnist")[1]


def plain_graymap(content):
    pixels = read_pgm(content)
    return b"P2\n# plain\n92 112\n255\n" + b"\n".join(b" ".join(b"%d" % value for value in row) for row in pixels)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda content: b"P5 92 112 255 " + content[-10_304:],
        lambda content: b"P5\n# made again\n92\n112\n255\n" + content[-10_304:],
        plain_graymap,
    ],
)
def test_a_header_may_say_the_same_in_another_way(rewrite, publish, put, tmp_path):
    contents = publish("orl")
    put("orl", contents | {"s7/3.pgm": rewrite(contents["s7/3.pgm"])})
    assert verify("orl", tmp_path).hash == standin("orl")[1]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"P5\n112 92\n255\n", "is 112 pixels wide and 92 high, must be 92 and 112"),
        (b"P5\n1 10304\n255\n", "is 1 pixels wide and 10304 high, must be 92 and 112"),
        (b"P5\n92 112\n1\n", "a pixel is not a whole number from 0 to 1"),
    ],
)
@pytest.mark.parametrize("which", ["s7/3.pgm", ".pgm"], ids=["one", "all"])
def test_the_right_pixels_under_a_header_gone_wrong_are_no_face(header, words, which, publish, put, tmp_path):
    contents = publish("orl")
    put("orl", {file: header + each[-10_304:] if file.endswith(which) else each for file, each in contents.items()})
    assert words in refusal("orl", tmp_path)
    with pytest.raises(InputError, match=words):
        load("orl", data="real", folder=tmp_path)


def test_line_ends_of_windows_are_no_damage(publish, put, tmp_path):
    contents = publish("adult")
    put("adult", {file: content.replace(b"\n", b"\r\n") for file, content in contents.items()})
    assert verify("adult", tmp_path).hash == standin("adult")[1]


def test_an_archive_unpacked_by_hand_may_leave_its_top_folder(publish, put, tmp_path):
    put("orl", {f"att_faces/{file}": content for file, content in publish("orl").items()})
    assert verify("orl", tmp_path).path == tmp_path / "orl" / "att_faces"


def test_the_hash_is_that_of_all_files_joined(publish, put, tmp_path):
    contents = publish("adult")
    put("adult", contents)
    expected = hashlib.sha256(contents["adult.data"] + contents["adult.test"]).hexdigest()
    assert verify("adult", tmp_path).hash == expected


@pytest.mark.parametrize(
    ("name", "file", "damage", "words"),
    [
        ("adult", "adult.test", lambda content: content[:-1], ["adult.test has wrong contents", "expected"]),
        ("yeast", "yeast.data", lambda content: b"<html>Moved</html>", ["yeast.data", "(an HTML page)"]),
        ("letter", "letter-recognition.data", lambda content: content[:99] + b"?" + content[100:], ["SHA-256"]),
        ("mnist", "t10k-labels-idx1-ubyte", lambda content: gzip.compress(content)[:-9], ["damaged gzip file"]),
        ("orl", "s7/3.pgm", lambda content: content[:-1], ["s7/3.pgm has 10303 pixels"]),
        ("orl", "s7/3.pgm", lambda content: content[:-1] + b"?", ["one of", "s40/10.pgm has wrong contents"]),
        ("orl", "s40/9.pgm", lambda content: b"<html>Moved</html>", ["s40/9.pgm does not begin as a PGM"]),
    ],
)
def test_a_damaged_file_is_named_and_never_replaced_by_a_stand_in(name, file, damage, words, publish, put, tmp_path):
    contents = publish(name)
    folder = put(name, contents | {file: damage(contents[file])})
    message = refusal(name, tmp_path)
    for word in [f"{name}: ", str(folder), f"'gadam data fetch {name}'", *words]:
        assert word in message
    for door in (load, locate):
        with pytest.raises(InputError):
            door(name, folder=tmp_path)
        with pytest.raises(InputError):
            door(name, data="real", folder=tmp_path)


def test_a_file_that_lacks_is_named(publish, put, tmp_path):
    folder = put("adult", {"adult.data": publish("adult")["adult.data"]})
    assert f"{folder} lacks adult.test (1 of 2 files are there)" in refusal("adult", tmp_path)


def test_a_folder_without_files_is_a_missing_dataset(tmp_path):
    (tmp_path / "adult").mkdir()
    assert refusal("adult", tmp_path) == f"adult: not in {tmp_path / 'adult'}; run 'gadam data fetch adult'"


def test_files_are_verified_again_when_one_has_changed_and_only_then(publish, put, tmp_path, monkeypatch):
    contents = publish("yeast")
    put("yeast", contents)
    reads = []
    monkeypatch.setattr(files, "gunzip", lambda data, where: reads.append(where) or data)
    assert verify("yeast", tmp_path) == locate("yeast", folder=tmp_path) == verify("yeast", tmp_path)
    assert len(reads) == 1
    put("yeast", {"yeast.data": contents["yeast.data"] + b"\n"})
    assert "wrong contents" in refusal("yeast", tmp_path)


def test_what_cannot_be_read_is_named_and_not_taken_for_missing(tmp_path):
    (tmp_path / "yeast").write_bytes(b"")
    assert refusal("yeast", tmp_path).startswith(f"yeast: {tmp_path / 'yeast'} cannot be read: Not a directory; make")
    (tmp_path / "adult" / "adult.data").mkdir(parents=True)
    assert f"adult: {tmp_path / 'adult' / 'adult.data'} is no file" in refusal("adult", tmp_path)
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "letter-recognition.data").symlink_to("nothing")
    assert "is no file (a folder, or a link to nothing); remove it" in refusal("letter", tmp_path)


@pytest.mark.parametrize(
    "door", [verify, lambda name, folder: locate(name, folder=folder), lambda name, folder: load(name, folder=folder)]
)
def test_a_file_that_vanishes_once_it_was_found_is_named(door, publish, put, tmp_path, monkeypatch):
    folder = put("yeast", publish("yeast"))
    find = files.find

    def vanishing(name, root):
        found = find(name, root)
        shutil.rmtree(folder)
        return found

    monkeypatch.setattr(files, "find", vanishing)
    with pytest.raises(
        InputError, match=r"^yeast: \S+ cannot be read: No such file or directory; replace it, or remove"
    ):
        door("yeast", tmp_path)


def test_the_command_line_looks_at_all_even_where_the_first_has_vanished(publish, put, tmp_path, monkeypatch, capsys):
    for name in ("yeast", "letter"):
        put(name, publish(name))
    find = files.find

    def vanishing(name, root):
        found = find(name, root)
        if name == "yeast":
            shutil.rmtree(tmp_path / "yeast")
        return found

    monkeypatch.setattr(files, "find", vanishing)
    monkeypatch.setattr(sys, "argv", ["gadam", "data", "verify", "yeast", "letter", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    output, complaint = capsys.readouterr()
    assert output.startswith("letter: verified")
    assert complaint.startswith("gadam: yeast: ")
    assert len(complaint.splitlines()) == 1


def test_a_link_to_the_right_file_will_do(publish, put, tmp_path):
    folder = put("yeast", publish("yeast"))
    (folder / "yeast.data").rename(tmp_path / "elsewhere")
    (folder / "yeast.data").symlink_to(tmp_path / "elsewhere")
    assert verify("yeast", tmp_path).hash == standin("yeast")[1]


def test_a_giant_is_not_read(publish, put, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 1_000)
    put("yeast", publish("yeast"))
    assert "bytes, more than any file of these datasets" in refusal("yeast", tmp_path)
