"""What a runtime does on a device: one file each, of the standard library and the runtime alone (Python 3.8 or newer).

A runner works in this process or, sent as source, in a worker of ``autoprune.devices.agent``. Its methods ``do_*`` take
a header and bytes and give a header and bytes.
"""
