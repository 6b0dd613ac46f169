"""Methods that the paper compares GADAM with, other than optimizers: from training and test rows to predictions."""
