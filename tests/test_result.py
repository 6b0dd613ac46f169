"""How a result and a population show themselves, and what `import gadam` brings."""

import base64
import io
import re
import subprocess
import sys
import threading
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
import zoo
from torch.nn import functional

import gadam
from gadam import Ensemble, GadamConfig, Population, evolve


@pytest.fixture(scope="module")
def result():
    config = GadamConfig(population_size=3, generations=2, steps=3, batch_size=8, validation_size=16, mode="loop")
    return evolve(zoo.mlp, (zoo.FEATURES, zoo.LABELS), config, executor=1, progress=False)


class Cells(HTMLParser):
    """Rows of the tables, attributes of the images, and tags that were opened and not closed."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.images, self.open, self.tags = [], [], [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attributes))
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def shown(thing):
    cells = Cells(thing._repr_html_())
    assert not cells.open
    return dict(cells.rows), cells


def test_the_old_home_of_what_moved_still_has_it():
    from gadam import result as module
    from gadam.evolution import loop as evolution

    for name in ("Callback", "Generation", "Result"):
        assert getattr(evolution, name) is getattr(module, name) is getattr(gadam, name)


def test_a_result_in_a_notebook(result):
    rows, cells = shown(result)
    last = result.history[(result.history["generation"] == 2) & result.history["survived"]]
    assert rows == {
        "model": "Sequential",
        "units": "3",
        "generations": "2 of 2 (stopped: generations)",
        "best loss on the last validation batch": f"{last['loss_survival'].min():.4g}",
        "gradient steps": "36",
        "seconds": f"{result.seconds:.1f}",
    }
    (image,) = cells.images
    assert image["alt"].startswith("Loss of every unit")
    kind, _, content = image["src"].partition(",")
    assert kind == "data:image/png;base64"
    import matplotlib.image

    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(content)))
    assert pixels.shape[1] > pixels.shape[0] > 100
    assert pixels[..., :3].std() > 0.05, "something is drawn"


def test_showing_a_result_opens_no_figure(result):
    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    result._repr_html_()
    assert plt.get_fignums() == before


def test_a_result_without_a_finite_loss_shows_itself(result):
    lost = replace(result, history=result.history.assign(loss_survival=float("nan")))
    assert shown(lost)[0]["best loss on the last validation batch"] == "nan"
    assert "best loss nan" in repr(lost)


def test_names_of_the_user_are_text_and_no_html(result):
    evil = type("<script>alert('&')</script>", (zoo.Linear,), {})
    population = Population.make(evil, 2)
    for thing in (population, replace(result, best=population.unit(0), population=population)):
        rows, cells = shown(thing)
        assert rows["model"] == "<script>alert('&')</script>"
        assert "script" not in cells.tags


def test_a_population_in_a_notebook():
    population = Population.make(zoo.batchnorm_mlp, 3)
    rows, _ = shown(population)
    assert rows["units"] == "3"
    assert rows["learned entries of each"] == str(sum(each[0].numel() for each in population.parameters.values()))
    assert rows["0.weight"] == "[8, 4] float32"
    assert set(population.parameters) <= set(rows)
    tensors = [*population.parameters.values(), *population.buffers.values()]
    assert rows["bytes of all"] == f"{sum(each.nbytes for each in tensors):,}"


def test_a_population_of_a_deep_model_shows_the_first_parameters():
    population = Population.make(lambda: torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(20))), 2)
    rows, cells = shown(population)
    assert rows["..."] == "20 more parameters"
    assert len(cells.rows) == 4 + 20 + 1


def test_a_result_in_a_terminal(result):
    text = repr(result)
    assert re.fullmatch(
        r"Result\(Sequential, 3 units, 2 of 2 \(stopped: generations\), best loss \S+, 36 gradient steps, \S+ s\)", text
    )


def test_a_result_gives_its_ensemble_and_its_soup(result):
    ensemble = result.ensemble()
    assert isinstance(ensemble, Ensemble)
    with torch.no_grad():
        expected = torch.stack([unit(zoo.FEATURES).softmax(-1) for unit in result.population.units()]).mean(0)
        torch.testing.assert_close(ensemble(zoo.FEATURES), expected)
        assert result.ensemble("outputs").average == "outputs"
        model = result.soup((zoo.FEATURES, zoo.LABELS), loss=functional.cross_entropy)
        ours, best = (functional.cross_entropy(each(zoo.FEATURES), zoo.LABELS) for each in (model, result.best))
    assert ours <= best


# --- the package ---


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_gadam_is_light_and_the_rest_comes_when_asked_for():
    heavy = "[name for name in ('matplotlib', 'seaborn', 'sklearn', 'IPython', 'ipywidgets') if name in sys.modules]"
    code = f"import sys, gadam; print({heavy}); gadam.LivePlot; gadam.GADAMClassifier; print('sklearn' in sys.modules)"
    assert python(code).splitlines() == ["[]", "True"]


def test_every_public_name_is_there_and_told():
    assert set(gadam.__all__) <= set(dir(gadam))
    assert list(gadam.__all__) == sorted(gadam.__all__, key=lambda name: (name[0].islower(), name))
    for name in gadam.__all__:
        assert getattr(gadam, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        gadam.Nothing  # noqa: B018


def test_without_scikit_learn_there_is_one_clear_line():
    code = (
        "import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.base'] = None\n"
        "import gadam\ntry:\n    gadam.GADAMRegressor\nexcept ImportError as error:\n    print(error)"
    )
    assert python(code) == "gadam.GADAMRegressor needs scikit-learn; install it with: pip install gadam[paper]"


def test_a_result_of_no_generation_shows_itself_too():
    stop = threading.Event()
    stop.set()
    config = GadamConfig(population_size=2, generations=2, steps=3, batch_size=8, validation_size=16, mode="loop")
    empty = evolve(zoo.mlp, (zoo.FEATURES, zoo.LABELS), config, stop=stop, progress=False)
    assert "0 of 2 (stopped: stop), best loss –, 0 gradient steps" in repr(empty)
    rows, _ = shown(empty)
    assert rows["generations"] == "0 of 2 (stopped: stop)"
    assert rows["best loss on the last validation batch"] == "–"
