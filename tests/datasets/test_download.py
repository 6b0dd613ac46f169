import gzip
import io
import zipfile

import pytest

from gadam import InputError
from gadam.datasets import StandInWarning, download, fetch, load, locate
from gadam.datasets.standins import standin

HTML = b"<!DOCTYPE html><html><body>This page has moved.</body></html>"


def archive(contents, folder=""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in contents.items():
            file.writestr(folder + name, content)
    return stream.getvalue()


def test_the_right_archive_is_accepted(server, publish, tmp_path):
    server.pages["/faces.zip"] = archive(publish("orl", [f"{server.address}/faces.zip"]), "att_faces/")
    located = fetch("orl", tmp_path / "new")
    assert (located.source, located.hash, located.path) == ("real", standin("orl")[1], tmp_path / "new" / "orl")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["orl"]
    assert load("orl", data="real", folder=tmp_path / "new").hash == located.hash
    assert len(server.asked) == 1  # what is there is not downloaded again


def test_the_right_files_are_accepted_one_by_one(server, publish, tmp_path):
    for file, content in publish("mnist", [f"{server.address}/mnist/{{file}}.gz"]).items():
        server.pages[f"/mnist/{file}.gz"] = gzip.compress(content, 1)
    data = load("mnist", folder=tmp_path)
    assert data.source == "real"
    assert len(list((tmp_path / "MNIST" / "raw").iterdir())) == 4


def test_mirrors_are_tried_in_order(server, publish, tmp_path):
    mirrors = [f"{server.address}/{path}" for path in ("gone.zip", "page.zip", "{file}", "never.zip")]
    contents = publish("yeast", mirrors)
    server.pages |= {"/page.zip": HTML, "/yeast.data": contents["yeast.data"]}
    (tmp_path / "yeast").mkdir()  # an empty folder is not in the way
    assert fetch("yeast", tmp_path).source == "real"
    assert server.asked == ["/gone.zip", "/page.zip", "/yeast.data"]


def test_wrong_contents_are_refused_and_nothing_is_left_behind(server, publish, tmp_path):
    mirrors = [f"{server.address}/{path}" for path in ("gone", "page.zip", "other.zip", "{file}", "climbs.zip")]
    contents = publish("adult", mirrors)
    server.pages |= {
        "/page.zip": HTML,
        "/other.zip": archive(contents | {"adult.test": contents["adult.test"][:-1]}),
        "/adult.data": gzip.compress(contents["adult.data"])[:-9],
        "/climbs.zip": archive({f"../../{file}": content[:-1] for file, content in contents.items()}),
    }
    folder = tmp_path / "new"
    with pytest.raises(InputError) as refused:
        fetch("adult", folder)
    message = str(refused.value)
    for word in (
        "HTTPError 404",
        "its archive is not an intact zip archive",
        "its adult.test has wrong contents",
        "its adult.data is a damaged gzip file",
        "its adult.data has wrong contents",
        f"by hand as data/README.md says and put them into {folder / 'adult'}",
    ):
        assert word in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_climbs_writes_nothing_outside_its_folder(server, publish, tmp_path):
    contents = publish("adult", [f"{server.address}/climbs.zip"])
    server.pages["/climbs.zip"] = archive(contents | {"evil": b"x"}, "../../")
    fetch("adult", tmp_path / "deep" / "new")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"deep/new/adult/adult.data", "deep/new/adult/adult.test"}


def test_a_folder_that_is_in_the_way_is_kept(server, publish, put, tmp_path):
    server.pages["/yeast.data"] = publish("yeast", [f"{server.address}/{{file}}"])["yeast.data"]
    put("yeast", {"notes.txt": b"mine"})
    with pytest.raises(InputError, match="yeast cannot be written"):
        fetch("yeast", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["yeast", "notes.txt"]


def test_a_server_that_cannot_be_reached_is_tried_once_per_process(monkeypatch, publish, tmp_path):
    monkeypatch.delenv("GADAM_OFFLINE")
    publish("letter", ["http://127.0.0.1:9/letter.zip"])
    tried = []
    get = download._get
    monkeypatch.setattr(download, "_get", lambda *args, **options: tried.append(args) or get(*args, **options))
    for _ in range(3):
        with pytest.warns(StandInWarning, match=r"no mirror could be used \(127.0.0.1: ConnectionError\)"):
            assert locate("letter", folder=tmp_path).source == "stand-in"
    with pytest.raises(InputError, match="data='real', but it is not in"):
        load("letter", data="real", folder=tmp_path)
    assert len(tried) == 1
    with pytest.raises(InputError):  # who asks for a download gets one tried
        fetch("letter", tmp_path)
    assert len(tried) == 2
    assert list(tmp_path.iterdir()) == []


def test_an_archive_of_links_and_one_of_absolute_paths_leave_nothing(server, publish, tmp_path):
    contents = publish("adult", [f"{server.address}/links.zip", f"{server.address}/absolute.zip"])
    outside = tmp_path / "outside"
    links = io.BytesIO()
    with zipfile.ZipFile(links, "w") as file:
        for name in contents:
            link = zipfile.ZipInfo(name)
            link.create_system, link.external_attr = 3, 0o120777 << 16
            file.writestr(link, str(outside))
    server.pages["/links.zip"] = links.getvalue()
    server.pages["/absolute.zip"] = archive({name: content[:-1] for name, content in contents.items()}, f"{outside}/")
    with pytest.raises(InputError, match=r"its adult.data has wrong contents.*its adult.data has wrong contents"):
        fetch("adult", tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_the_good_copy_is_untouched_by_whatever_a_mirror_serves(server, publish, put, tmp_path):
    contents = publish("yeast", [f"{server.address}/{{file}}"])
    server.pages["/yeast.data"] = HTML
    folder = put("yeast", contents)
    assert fetch("yeast", tmp_path).source == "real"
    assert server.asked == []
    assert (folder / "yeast.data").read_bytes() == contents["yeast.data"]


def test_a_server_that_never_ends_is_given_up_at_the_limit(server, publish, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LIMIT", 2**17)
    publish("yeast", [f"{server.address}/{{file}}"])
    server.pages["/yeast.data"] = bytes(2**18)
    with pytest.raises(InputError, match=r"127\.0\.0\.1: it sends more than 131,072 bytes"):
        fetch("yeast", tmp_path)
    assert list(tmp_path.iterdir()) == []
