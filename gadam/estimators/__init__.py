"""The scikit-learn face: `GADAMClassifier` and `GADAMRegressor`."""

from gadam.estimators.estimators import GADAMClassifier, GADAMRegressor

__all__ = ["GADAMClassifier", "GADAMRegressor"]
