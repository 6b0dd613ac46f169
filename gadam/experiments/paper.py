"""The paper's own numbers, as printed."""

TABLE4 = {
    "MLP (GADAM)": {"yeast": 63.70, "adult": 87.05, "letter": 96.90},
    "MLP (Adam)": {"yeast": 62.05, "adult": 85.03, "letter": 96.70},
    "gcForest": {"yeast": 63.45, "adult": 86.40, "letter": 97.40},
    "Random Forest": {"yeast": 60.44, "adult": 85.63, "letter": 96.28},
    "SVM (rbf)": {"yeast": 40.76, "adult": 76.41, "letter": 97.06},
    "kNN (k=3)": {"yeast": 48.80, "adult": 76.00, "letter": 95.23},
}
"""Table 4: accuracy in percent. Its gcForest row and those below are the numbers of the gcForest paper (1702.08835)."""
