"""GADAMClassifier and GADAMRegressor: a population of modules, evolved, behind scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from gadam.config import GadamConfig, InputError
from gadam.display import warn
from gadam.ensembles import greedy_soup
from gadam.estimators.rows import REPEATED, Weighted, WeightedRows
from gadam.estimators.units import Rescale, continue_units, fresh_units
from gadam.evolution.loop import evolve
from gadam.evolution.teach import HELD_OUT, teach_config
from gadam.result import Callback, Result
from gadam.runtime import intra_operator_threads
from gadam.training.fit import as_taken
from gadam.types import Loss
from gadam.validation import check_choice, check_kind, check_number, shown

_PREDICT_WITH = ("best", "ensemble", "soup")
_CHUNK = 256  # rows that are predicted at once, always so many: no row's last bits depend on what is asked beside it
_SOUP_SHARE = 0.2  # share of the rows that is held out for a soup unless told otherwise
_PASSES, _FEWEST, _MOST = 20, 100, 2_000  # steps="auto"


# A dataclass writes the __init__ that scikit-learn asks for: every parameter by its name, stored as it was given.
@dataclass(eq=False, repr=False)
class _Estimator(BaseEstimator):
    hidden_layer_sizes: int | Sequence[int] = (100,)
    _: KW_ONLY
    make_model: Callable[[int, int], nn.Module] | None = None
    preset: Literal["gadam", "teach"] = "gadam"
    population_size: int = 8
    generations: int = 3
    steps: int | Literal["auto"] = "auto"
    batch_size: int = 128
    learning_rate: float | tuple[float, float] | None = None
    mutation_rate: float = 0.01
    threshold: float = 0.0
    validation_size: int = 1_024
    settings: Mapping[str, Any] | None = None
    predict_with: Literal["best", "ensemble", "soup"] | None = None
    validation_fraction: float | None = None
    warm_start: bool = False
    random_state: int | np.random.RandomState | None = None
    executor: Executor | int | None = None
    device: torch.device | str = "auto"
    verbose: bool = False
    callbacks: Iterable[Callback] = ()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Keep the fit before as it was, where this one is refused or interrupted."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _validated(self, X: Any, **asked: Any) -> Any:  # noqa: N803
        """Return what `validate_data` gives, X as dense float32 [n, features]."""
        found = validate_data(self, X, accept_sparse="csr", dtype=np.float32, **asked)
        X, *y = found if isinstance(found, tuple) else (found,)
        X = X.toarray() if issparse(X) else X
        return (X, *y) if y else X

    def _evolve(self, table: WeightedRows, outputs: int, loss: Loss, finish: nn.Module) -> Self:
        """Evolve modules from the features to `outputs`, which `finish` turns into predictions."""
        check_choice("preset", self.preset, ("gadam", "teach"))
        predicts_with = self._predicts_with
        try:
            random = check_random_state(self.random_state)
        except ValueError:
            raise InputError(
                f"random_state={shown(self.random_state)} must be a whole number from 0 to {2**32 - 1}, a "
                "numpy.random.RandomState or None"
            ) from None
        seed = int(random.randint(2**31 - 1))
        if table.weights is not None:
            if self.preset == "teach":
                raise InputError(
                    "sample_weight: preset='teach' trains on predictions and can repeat rows, but not weigh them; must "
                    f"be whole numbers that make at most {REPEATED} times as many rows, and class_weight=None"
                )
            loss = Weighted(loss)
        share = self._share_held_out()
        train, held = table.hold_out(share, random) if share else (table, None)
        sizes = table.X.shape[1], outputs
        config = self._config(int(train.times.sum()), seed)
        make_unit = fresh_units(self.make_model, self.hidden_layer_sizes, *sizes)
        last: Result | None = getattr(self, "result_", None)
        if self.warm_start and last is not None:
            if sizes != self._sizes:
                have, must = ("{} features and {} outputs".format(*each) for each in (sizes, self._sizes))
                raise InputError(f"warm_start=True: X and y have {have}, must have {must} as in the last fit")
            make_unit = continue_units(last.population, config.population_size, make_unit)
            config = replace(config, initialisation="module")  # any other would draw these units anew
        validation = None if held is None else held.tensors()
        result = evolve(
            make_unit, train.tensors(), config, loss=loss, validation=validation,
            executor=self.executor, device=self.device, callbacks=self.callbacks, progress=bool(self.verbose),
        )  # fmt: skip
        if result.stopped == "interrupt":  # in a notebook: no grid search goes on after it
            raise KeyboardInterrupt("the fit was interrupted")
        self.result_, self.history_, self._finish = result, result.history, finish
        self._sizes: tuple[int, int] = sizes
        self._models: dict[str, nn.Module] = {}
        if predicts_with == "soup" and validation is not None:  # now, for its rows are not kept
            soup, _ = greedy_soup(result.population, validation, loss)
            self._models["soup"] = nn.Sequential(soup, finish).eval()
        return self

    @property
    def _predicts_with(self) -> str:
        if self.predict_with is None:
            return "best" if self.preset == "teach" else "ensemble"
        check_choice("predict_with", self.predict_with, _PREDICT_WITH)
        return self.predict_with

    def _share_held_out(self) -> float:
        share, mixes = self.validation_fraction, self._predicts_with == "soup"
        if share is None:
            return _SOUP_SHARE if mixes else 1 / HELD_OUT if self.preset == "teach" else 0
        wanted = "(0, 1), for a soup is mixed by rows that did not train it" if mixes else "[0, 1)"
        wanted = f"a number in {wanted}, or None"
        check_number("validation_fraction", share, lambda x: (x > 0 or not mixes) and 0 <= x < 1, wanted)
        return float(share)

    @property
    def model_(self) -> nn.Module:
        """The module that predicts by `predict_with`, which may be changed after `fit`."""
        check_is_fitted(self)
        way = self._predicts_with
        if way not in self._models:
            if way == "soup":
                raise InputError("predict_with='soup' must be given before fit, which has the rows that a soup needs")
            best = nn.Sequential(self.result_.best, self._finish).eval()
            self._models[way] = best if way == "best" else self._ensemble()
        return self._models[way]

    def _ensemble(self) -> nn.Module:
        return nn.Sequential(self.result_.ensemble("outputs"), self._finish).to("cpu").eval()

    def _config(self, rows: int, seed: int) -> GadamConfig:
        given = {name: value for name, value in self.get_params(deep=False).items() if name in GadamConfig.names()}
        if self.learning_rate is None:
            del given["learning_rate"]
        check_kind("settings", self.settings, Mapping | None, "a mapping of names of GadamConfig, or None")
        further = dict(self.settings or {})
        if several := sorted({*given, "seed"} & further.keys()):
            raise InputError(f"settings: {several[0]} is a parameter of its own (seed: as random_state)")
        for name in further:
            check_choice("settings", name, GadamConfig.names() + ["teacher_share"] * (self.preset == "teach"))
        if self.steps == "auto":
            given["steps"] = _FEWEST  # for now: the size of a batch must be seen to be a number first
            size = GadamConfig(**given).batch_size
            given["steps"] = min(max(_FEWEST, _PASSES * rows // size), _MOST)
        if self.preset == "teach":
            spent = GadamConfig(**given)
            total = 2 * spent.generations * spent.steps * spent.population_size
            for name in ("generations", "steps", "mutation_rate", "threshold", "validation_size"):
                given.pop(name)
            try:
                return teach_config(rows, total, seed=seed, **given, **further)
            except InputError as error:
                if str(error).startswith("total_steps"):
                    raise InputError(f"steps={self.steps}: {error}") from None
                raise
        return GadamConfig(**given, **further, seed=seed)

    def _predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return what `model_` gives for X, [n, outputs]."""
        model = self.model_
        (inputs,) = as_taken(self.result_.best, [torch.tensor(self._validated(X, reset=False))])
        count = len(inputs)
        padded = nn.functional.pad(inputs, (0, 0, 0, -count % _CHUNK))
        # Threads within an operator would spend longer waiting for each other than so few rows take.
        with torch.no_grad(), intra_operator_threads(1):
            predicted = torch.cat([model(part) for part in padded.split(_CHUNK)])[:count]
        return (predicted if predicted.dtype == torch.float64 else predicted.float()).numpy()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@dataclass(eq=False, repr=False)
class GADAMClassifier(ClassifierMixin, _Estimator):
    """A classifier: modules that GADAM evolves by the cross-entropy.

    Standardise X first, as for any neural network. An estimator that is cloned (cross-validation, grid search) or
    pickled needs parameters that can be: for `executor` a number, for `make_model` a function of a module.

    Example:
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> make_pipeline(StandardScaler(), gadam.GADAMClassifier(steps=100)).fit(X, y).predict(X)

    Args:
        hidden_layer_sizes: units of each hidden layer of a multilayer perceptron with ReLU.
        make_model: (features, outputs) -> a fresh module from float32 [n, features] to [n, outputs] (of a classifier:
            logits, an output for each class), instead of the perceptron.
        preset: "gadam" is `gadam.evolve`. "teach" is `gadam.teach`: as many steps in all, and one network without a
            choice of learning rate; mutation_rate, threshold and validation_size do not count. It takes no
            class_weight, and of sample weights only whole ones.
        population_size: see `GadamConfig`; so too for generations, batch_size, mutation_rate, threshold and
            validation_size.
        learning_rate: see `GadamConfig`; None is what the preset has: 1e-3, or for "teach" a range.
        steps: optimizer steps per unit per generation. "auto": twenty passes over the training rows, but from 100
            to 2,000 steps; a fit takes time of the order of `MLPClassifier`.
        settings: further settings of `GadamConfig` by name, such as {"optimizer": "sgd"}.
        predict_with: the "best" unit of the last generation, the "ensemble" of all (for classes the mean of their
            probabilities), or their "soup", see `gadam.ensembles`; of "teach" the student or the teachers. None: the
            ensemble, of "teach" the best. May be changed after `fit`, to "soup" only if it was that then.
        validation_fraction: the share of rows in (0, 1) held out from training, by which units are selected and a soup
            is mixed. 0: units are selected by training rows, as in the paper; "soup" refuses it. None: 0, but 0.2 for
            "soup" and 0.1 for "teach".
        warm_start: whether a further `fit` begins with the units of the last generation of the fit before, fittest
            first, instead of fresh ones; where `population_size` has grown the others are fresh. It must have as many
            features and outputs (the same classes), and units of the same architecture. Optimizers begin anew,
            `result_` and `history_` are of the last fit alone, and an int as `random_state` draws the same batches in
            each.
        class_weight: a factor of the loss for each label, at least 0 and 1 where there is none, beside `sample_weight`;
            "balanced": inverse to their frequency. Only for classes.
        random_state: an int for results that can be repeated.
        executor: threads, or another executor of `evolve`; no result depends on their number.
        device: "auto" or a torch device, for training; predictions are made on the CPU.
        verbose: whether a progress bar is shown.
        callbacks: `gadam.Callback`s.

    Attributes:
        classes_: the labels, sorted.
        model_: the module that predicts by `predict_with`, from float32 [n, features] to probabilities [n, classes].
        result_: the `Result` of the evolution.
        history_: its history.
        n_features_in_: columns of X.
        feature_names_in_: their names, if X was a DataFrame.
    """

    _: KW_ONLY
    class_weight: Literal["balanced"] | Mapping[Any, float] | None = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Evolve.

        Args:
            X: [n, features], finite numbers: an array, a DataFrame or a sparse matrix, which is made dense.
            y: [n], labels of any kind.
            sample_weight: [n], at least 0; 0 leaves a row out. Whole weights repeat it, as long as there are then at
                most ten times as many rows; any others multiply its loss.

        Raises:
            ValueError: an argument or a parameter cannot be used (of gadam's own: `InputError`, one line).
        """
        last = getattr(self, "classes_", None) if self.warm_start else None
        with self._whole():
            X, y = self._validated(X, y=y)
            check_classification_targets(y)
            self.classes_, targets = np.unique(y, return_inverse=True)
            if last is not None and len(last) == len(self.classes_) and (last != self.classes_).any():
                raise InputError("warm_start=True: y has other labels than in the last fit; must have the same")
            table = WeightedRows.weigh(X, targets, sample_weight, self._class_factors(y))
            self._evolve(table, len(self.classes_), nn.functional.cross_entropy, nn.Softmax(dim=1))
            self.result_ = replace(self.result_, targets="classes")  # also where weights stand beside them
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return probabilities of the classes, float32 [n, classes], in the order of `classes_`."""
        return self._predict(X)

    def predict_log_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):  # a probability may be too small for float32
            return np.log(self._predict(X))

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable labels, [n]."""
        probabilities = self._predict(X)
        return self.classes_[probabilities.argmax(1)]

    def _ensemble(self) -> nn.Module:
        if len(self.classes_) == 1:  # which is certain whatever the outputs are, and which `Ensemble` takes for a fault
            return super()._ensemble()
        return self.result_.ensemble("probabilities").to("cpu")

    def _class_factors(self, y: np.ndarray) -> np.ndarray:
        given = f"class_weight={shown(self.class_weight)} must be 'balanced', a mapping of labels to numbers, or None"
        labels = list(self.class_weight) if isinstance(self.class_weight, Mapping) else []
        if unknown := [label for label in labels if label not in self.classes_.tolist()]:
            if len(unknown) == len(labels):
                raise InputError(f"{given}: {shown(unknown[0])} is no label of y")
            warn(f"class_weight: {shown(unknown[0])} is no label of y")  # a fold may lack it
        try:
            factors: np.ndarray = compute_sample_weight(self.class_weight, y)
        except ValueError as error:
            raise InputError(f"{given}: {error}") from None
        if not (np.isfinite(factors) & (factors >= 0)).all():
            raise InputError(f"{given}, of at least 0")
        return factors


@dataclass(eq=False, repr=False)
class GADAMRegressor(RegressorMixin, _Estimator):
    """A regressor: modules that GADAM evolves by the squared error.

    Its parameters and attributes are those of `GADAMClassifier`, without `class_weight` and `classes_`. The units learn
    standardised targets; `predict` and `model_` answer in the units of y.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Evolve; y are finite numbers, [n] or [n, outputs], all else is as for `GADAMClassifier.fit`."""
        with self._whole():
            X, y = self._validated(X, y=y, multi_output=True, y_numeric=True)
            table = WeightedRows.weigh(X, np.asarray(y, dtype=np.float64).reshape(len(y), -1), sample_weight)
            mean, deviation = table.moments()
            standard = replace(table, targets=((table.targets - mean) / deviation).astype(np.float32))
            self._single = y.ndim == 1
            return self._evolve(standard, len(mean), nn.functional.mse_loss, Rescale(mean, deviation))

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return targets, float64, [n] or [n, outputs] as y had it."""
        predicted = self._predict(X)
        return predicted[:, 0] if self._single else predicted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
