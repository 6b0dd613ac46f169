"""Shards on threads, processes and machines."""
