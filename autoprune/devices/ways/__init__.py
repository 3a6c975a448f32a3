"""One file per way to a device, named like the scheme of its addresses; its ``DEVICE`` is made of a profile."""
