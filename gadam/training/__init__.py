"""Training of the units: plan, batches, optimizers, shards, and the step itself."""
