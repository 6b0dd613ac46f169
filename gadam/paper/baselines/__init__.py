"""What the paper compares GADAM with, other than optimizers: functions from training and test rows to predictions."""
