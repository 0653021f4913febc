"""Makes the records: what a run is, which runs make up a table, data, networks, training, and the sweep."""

from .data import load

__all__ = ["load"]
