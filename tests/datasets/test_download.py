"""Downloads from mirrors on this machine: the right contents are kept, everything else leaves nothing behind."""

import gzip
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from gadam import InputError
from gadam.datasets import StandInWarning, fetch, load, locate

HTML = b"<!DOCTYPE html><html><body>This page has moved.</body></html>"


def archive(contents, folder="", link_to=None):
    """A zip archive; with `link_to` its members are symbolic links, as `zip --symlinks` writes them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in contents.items():
            member = zipfile.ZipInfo(folder + name)
            if link_to:
                member.create_system, member.external_attr = 3, 0o120777 << 16
            file.writestr(member, link_to or content)
    return stream.getvalue()


def written(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("top", ["", "att_faces/", "../../"], ids=["flat", "top folder", "climbing"])
def test_only_the_published_files_of_an_archive_are_kept(top, server, publish, tmp_path, capfd):
    contents = publish("orl", [f"{server.address}/faces.zip"])
    server.pages["/faces.zip"] = archive(contents | {"README": b"words"}, top)
    located = fetch("orl", tmp_path / "new")
    assert (located.source, located.path) == ("real", tmp_path / "new" / "orl")
    assert written(tmp_path) == {f"new/orl/{file}" for file in contents}
    assert load("orl", data="real", folder=tmp_path / "new").hash == located.hash
    assert len(server.asked) == 1  # what is there is not downloaded again
    assert capfd.readouterr() == ("", "")


def test_mirrors_are_tried_in_order_and_may_have_the_files_one_by_one_and_compressed(server, publish, tmp_path):
    mirrors = [f"{server.address}/{path}" for path in ("gone.zip", "page.zip", "{file}.gz", "never.zip")]
    contents = publish("adult", mirrors)
    server.pages["/page.zip"] = HTML
    for file, content in contents.items():
        server.pages[f"/{file}.gz"] = gzip.compress(content, 1)
    (tmp_path / "adult").mkdir()  # an empty folder is not in the way
    assert fetch("adult", tmp_path).source == "real"
    assert server.asked == ["/gone.zip", "/page.zip", "/adult.data.gz", "/adult.test.gz"]


def test_wrong_contents_are_refused_and_leave_nothing_behind(server, publish, tmp_path):
    paths = ("gone", "page.zip", "other.zip", "{file}", "climbing.zip", "links.zip", "cut.zip", "without.zip")
    contents = publish("adult", [f"{server.address}/{path}" for path in paths])
    wrong = contents | {"adult.test": contents["adult.test"][:-1]}
    server.pages |= {
        "/page.zip": HTML,
        "/other.zip": archive(wrong),
        "/adult.data": gzip.compress(contents["adult.data"])[:-9],
        "/adult.test": contents["adult.test"],
        "/climbing.zip": archive(wrong, "../../"),
        "/links.zip": archive(contents, link_to=str(tmp_path / "outside")),
        "/cut.zip": archive(contents)[:-30],
        "/without.zip": archive({"adult.names": b"words"}),
    }
    with pytest.raises(InputError) as refused:
        fetch("adult", tmp_path / "new")
    message = str(refused.value)
    for word in ("HTTPError 404", "BadZipFile", "adult.test has wrong", "adult.data is a damaged gzip", "has no adult"):
        assert word in message
    assert message.count("127.0.0.1") == len(paths)
    assert f"data/README.md says and put them into {tmp_path / 'new' / 'adult'}" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_several_may_download_at_once_but_a_folder_that_is_in_the_way_is_kept(server, publish, put, tmp_path):
    server.pages["/yeast.data"] = publish("yeast", [f"{server.address}/{{file}}"])["yeast.data"]
    put("yeast", {"notes.txt": b"mine"})
    with pytest.raises(InputError, match="yeast cannot be written"):
        fetch("yeast", tmp_path)
    with ThreadPoolExecutor(4) as pool:
        located = list(pool.map(lambda _: fetch("yeast", tmp_path / "other"), range(8)))
    assert {each.source for each in located} == {"real"}
    assert written(tmp_path) == {"yeast/notes.txt", "other/yeast/yeast.data"}


def test_a_server_that_has_nothing_is_tried_once_per_process(server, publish, tmp_path):
    publish("letter", [f"{server.address}/letter.zip"])
    for _ in range(3):
        with pytest.warns(StandInWarning, match=r"no mirror could be used \(127.0.0.1: HTTPError 404"):
            assert locate("letter", folder=tmp_path).source == "stand-in"
    with pytest.raises(InputError, match="data='real', but it is not in"):
        load("letter", data="real", folder=tmp_path)
    assert len(server.asked) == 1
    with pytest.raises(InputError):  # who asks for a download gets one tried
        fetch("letter", tmp_path)
    assert len(server.asked) == 2
    assert list(tmp_path.iterdir()) == []
