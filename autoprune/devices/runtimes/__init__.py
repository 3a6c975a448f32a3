"""One file per runtime: what this end has to know of it. What works on the device is its namesake in ``runners``."""
