import matplotlib as mpl
import numpy as np
import pytest

from gadam.paper.report import figures


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        mpl.use("agg")
        figures.use_style()
        yield


def drawing():
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.plot(np.linspace(0, 1, 5), label="GADAM")
    axes.fill_between(range(5), 0, 1, alpha=0.2)
    axes.set_xlabel("generation")
    axes.legend()
    return figure


def test_files_are_the_same_bytes_twice_and_when_saved_again(tmp_path):
    figure = drawing()
    png = figures.save(figure, tmp_path / "a")
    figures.save(figure, tmp_path / "b", mark="marked")
    figures.save(figure, tmp_path / "c")
    figures.save(drawing(), tmp_path / "d")
    files = {name: [(tmp_path / f"{name}.{suffix}").read_bytes() for suffix in figures.SUFFIXES] for name in "abcd"}
    assert files["a"][0] == png
    assert files["a"] == files["c"] == files["d"]
    assert files["a"] != files["b"]
    assert len(list(tmp_path.iterdir())) == 8


def test_files_say_neither_when_nor_with_what_they_were_made(tmp_path):
    figures.save(drawing(), tmp_path / "a")
    for suffix in figures.SUFFIXES:
        content = (tmp_path / f"a.{suffix}").read_bytes()
        assert b"Matplotlib" not in content
        assert b"<dc:date>" not in content


def test_mark_is_above_the_figure_and_not_kept(tmp_path):
    figure = drawing()
    plain = figures.save(figure, tmp_path / "a")
    marked = figures.save(figure, tmp_path / "b", mark=figures.MARK)
    assert figure.texts == []
    height = [int.from_bytes(png[20:24]) for png in (plain, marked)]
    assert height[1] > height[0]


def test_axes_will_do(tmp_path):
    figures.save(drawing().axes[0], tmp_path / "a")
    assert (tmp_path / "a.png").is_file()


def test_failed_drawing_leaves_no_file(tmp_path):
    figure = drawing()
    figure.axes[0].set_title("$\\nonsense$")
    with pytest.raises(ValueError, match="nonsense"):
        figures.save(figure, tmp_path / "a", mark="mark")
    assert list(tmp_path.iterdir()) == []
    assert figure.texts == []
