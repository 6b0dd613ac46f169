"""Train a population of PyTorch modules with Adam and evolve it with a genetic algorithm.

After Zhang and Gouza, "GADAM: Genetic-Evolutionary ADAM for Deep Neural Network Optimization", arXiv 1805.07500.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gadam import genetics
    from gadam.callbacks import EarlyStopping, TensorBoard
    from gadam.config import GadamConfig, InputError
    from gadam.ensembles import Ensemble
    from gadam.estimators import GADAMClassifier, GADAMRegressor
    from gadam.evolution.loop import evolve, evolve_seeds, train
    from gadam.evolution.results import load_result
    from gadam.evolution.teach import teach
    from gadam.live_plot import LivePlot
    from gadam.population import Population
    from gadam.result import Callback, Generation, Result

__all__ = [
    "Callback", "EarlyStopping", "Ensemble", "GADAMClassifier", "GADAMRegressor", "GadamConfig", "Generation",
    "InputError", "LivePlot", "Population", "Result", "TensorBoard", "evolve", "evolve_seeds", "genetics",
    "load_result", "teach", "train",
]  # fmt: skip
__version__ = "0.1.0"

# Imported when they are first asked for: the command line needs no torch, and training needs no scikit-learn.
_MODULES = {
    "callbacks": ("EarlyStopping", "TensorBoard"),
    "config": ("GadamConfig", "InputError"),
    "ensembles": ("Ensemble",),
    "estimators": ("GADAMClassifier", "GADAMRegressor"),
    "evolution.loop": ("evolve", "evolve_seeds", "train"),
    "evolution.results": ("load_result",),
    "evolution.teach": ("teach",),
    "live_plot": ("LivePlot",),
    "population": ("Population",),
    "result": ("Callback", "Generation", "Result"),
}


def __getattr__(name: str) -> Any:
    if name in ("datasets", "genetics"):
        return import_module(f"gadam.{name}")
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module 'gadam' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"gadam.{module}"), name)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "sklearn":
            raise
        raise ImportError(f"gadam.{name} needs scikit-learn; install it with: pip install gadam[paper]") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
