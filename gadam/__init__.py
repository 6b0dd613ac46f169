"""Train a population of PyTorch modules with Adam and evolve it with a genetic algorithm.

After Zhang and Gouza, "GADAM: Genetic-Evolutionary ADAM for Deep Neural Network Optimization", arXiv 1805.07500.
"""

from gadam import genetics
from gadam.config import GadamConfig, InputError
from gadam.evolution import Callback, Generation, Result, evolve
from gadam.population import Population

__all__ = ["Callback", "GadamConfig", "Generation", "InputError", "Population", "Result", "evolve", "genetics"]
__version__ = "0.1.0"
