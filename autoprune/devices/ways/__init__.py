"""One file per way to a device: from an address to the argument list that leads there."""
