"""Contract kits and fakes for those who write plug-ins; needs pytest.

Subclass a contract in a test module, supply its fixtures, and pytest runs every promise against your implementation.
"""

from autoprune.testing.device_contract import DeviceContract
from autoprune.testing.fake_device import FakeDevice, FakeSession, steady
from autoprune.testing.made_up import made_up_record

__all__ = ["DeviceContract", "FakeDevice", "FakeSession", "made_up_record", "steady"]
