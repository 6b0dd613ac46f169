"""Generations: train, breed, train, survive; and what is kept so that they go on after a stop."""
