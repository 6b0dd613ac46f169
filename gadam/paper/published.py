"""The paper's own numbers, as printed."""

from collections.abc import Mapping
from typing import Any

Table = Mapping[str, Mapping[Any, float]]
"""Accuracy in percent, or loss, by method and column."""

TABLE1: Table = {
    "GADAM": {"loss": 0.0396, "accuracy": 99.37},
    "Adam": {"loss": 0.0662, "accuracy": 99.18},
    "SGD": {"loss": 0.2166, "accuracy": 94.51},
    "RMSProp": {"loss": 0.0745, "accuracy": 99.00},
    "AdaGrad": {"loss": 0.1720, "accuracy": 95.96},
    "AdaDelta": {"loss": 1.8888, "accuracy": 66.08},
    "LeNet-5 (GD)": {"accuracy": 99.05},
    "gcForest": {"accuracy": 99.26},
    "Deep Belief Net": {"accuracy": 98.75},
    "Random Forest": {"accuracy": 96.8},
    "SVM (rbf)": {"accuracy": 98.60},
}
"""Table 1: average loss and accuracy in percent on MNIST's test images; quoted in the paper from LeNet-5 (GD) on."""

TABLE3: Table = {
    "CNN (GADAM)": {5: 97.00, 7: 99.17, 9: 100.00},
    "CNN (Adam)": {5: 96.50, 7: 97.50, 9: 98.50},
    "gcForest": {5: 91.00, 7: 96.67, 9: 97.50},
    "Random Forest": {5: 91.00, 7: 93.33, 9: 95.00},
    "SVM (rbf)": {5: 80.50, 7: 82.50, 9: 85.00},
    "kNN (k=3)": {5: 76.00, 7: 83.33, 9: 92.50},
}
"""Table 3: ORL by training images of each person; quoted in the paper but for the CNNs."""

TABLE4: Table = {
    "MLP (GADAM)": {"yeast": 63.70, "adult": 87.05, "letter": 96.90},
    "MLP (Adam)": {"yeast": 62.05, "adult": 85.03, "letter": 96.70},
    "gcForest": {"yeast": 63.45, "adult": 86.40, "letter": 97.40},
    "Random Forest": {"yeast": 60.44, "adult": 85.63, "letter": 96.28},
    "SVM (rbf)": {"yeast": 40.76, "adult": 76.41, "letter": 97.06},
    "kNN (k=3)": {"yeast": 48.80, "adult": 76.00, "letter": 95.23},
}
"""Table 4. Its gcForest row and those below are the numbers of the gcForest paper (1702.08835)."""

TABLES: Mapping[str, Table] = {"table1": TABLE1, "table3": TABLE3, "table4": TABLE4}
