"""Programs of whole training steps: traced once from a model and its loss, then run many times."""
