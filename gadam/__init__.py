"""Train a population of PyTorch modules with Adam and evolve it with a genetic algorithm.

After Zhang and Gouza, "GADAM: Genetic-Evolutionary ADAM for Deep Neural Network Optimization", arXiv 1805.07500.
"""

from typing import TYPE_CHECKING, Any

from gadam import genetics
from gadam.config import GadamConfig, InputError
from gadam.ensembles import Ensemble
from gadam.evolution.loop import evolve, evolve_seeds
from gadam.population import Population
from gadam.result import Callback, Generation, Result, load_result

if TYPE_CHECKING:
    from gadam.estimators import GADAMClassifier, GADAMRegressor
    from gadam.live_plot import LivePlot

__all__ = [
    "Callback",
    "Ensemble",
    "GADAMClassifier",
    "GADAMRegressor",
    "GadamConfig",
    "Generation",
    "InputError",
    "LivePlot",
    "Population",
    "Result",
    "evolve",
    "evolve_seeds",
    "genetics",
    "load_result",
]
__version__ = "0.1.0"

# These need packages that training does not: imported when they are first asked for.
_LATER = {"GADAMClassifier": "estimators", "GADAMRegressor": "estimators", "LivePlot": "live_plot"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'gadam' has no attribute {name!r}")
    from importlib import import_module

    try:
        value = getattr(import_module(f"gadam.{_LATER[name]}"), name)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "sklearn":
            raise
        raise ImportError(f"gadam.{name} needs scikit-learn; install it with: pip install gadam[paper]") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
