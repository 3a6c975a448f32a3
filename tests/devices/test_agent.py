"""The agent and the host's end of its connection, against whatever the other side may say."""

import contextlib
import io
import json
import math
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from autoprune.devices import Arrays, agent, measure
from autoprune.devices._wire import BOOT, Connection
from autoprune.devices.remote import RemoteDevice
from autoprune.devices.ways.ssh import SshDevice
from autoprune.errors import AutopruneError, DeviceError, StageError
from autoprune.hardware import HardwareProfile, TimingPolicy
from autoprune.records import Artifact

HERE = [sys.executable, "-u", "-c", BOOT]
ODD = b"""\
class Runner:
    def __init__(self, path, options, data):
        self.data = data
    def do_hello(self, request, data):
        return {}, self.data
    def do_hang(self, request, data):
        import subprocess
        subprocess.run(["sleep", "1000"])
    def do_exit(self, request, data):
        import os
        os._exit(3)
    def do_kill(self, request, data):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    def do_raise(self, request, data):
        raise ValueError("what went wrong")
    def do_print(self, request, data):
        print("to where the frames go")
        return {"said": True}, b""
    def do_much(self, request, data):
        return {}, data * request["times"]
"""


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        found = Connection(HERE, "here")
    yield found
    found.close()


def opened(connection: Connection, data: bytes = b"") -> int:
    reply, back = connection.ask("open", timeout_s=20, data=ODD + data, source_bytes=len(ODD), options={})
    assert back == data
    return int(reply["worker"])


@pytest.mark.parametrize(
    ("do", "kind", "says"),
    [
        ("hang", "hang", "within 0.5 s"),
        ("exit", "crash", "status 3"),
        ("kill", "out_of_memory", "killed"),
        ("raise", "runtime", "what went wrong"),
    ],
)
def test_what_a_runner_does_is_told(connection: Connection, do: str, kind: str, says: str) -> None:
    worker, other = opened(connection), opened(connection, b"other")
    began = time.monotonic()
    with pytest.raises(StageError, match=says) as caught:
        connection.ask(do, timeout_s=0.5, worker=worker)
    assert caught.value.kind == kind
    assert time.monotonic() - began < 3
    assert connection.ask("print", timeout_s=5, worker=other)[0] == {"said": True}
    if do != "raise":
        with pytest.raises(DeviceError, match="nothing to do"):
            connection.ask("print", timeout_s=5, worker=worker)


def test_several_requests_are_asked_as_one(connection: Connection) -> None:
    worker = opened(connection)
    steps = [{"do": do, "timeout_s": 5} for do in ("print", "foreign", "print")]
    replies = connection.ask("in_turn", timeout_s=20, worker=worker, steps=steps)[0]["replies"]
    assert [replies[0], replies[2]] == [{"said": True}] * 2
    assert replies[1]["seconds"] > 0
    with pytest.raises(StageError, match="what went wrong"):
        connection.ask("in_turn", timeout_s=20, worker=worker, steps=[{"do": "raise", "timeout_s": 5}, *steps])
    with pytest.raises(StageError, match=r"within 0.5 s"):
        connection.ask("in_turn", timeout_s=20, worker=worker, steps=[{"do": "hang", "timeout_s": 0.5}])


def test_megabytes_come_back(connection: Connection) -> None:
    worker = opened(connection)
    part = bytes(range(256)) * 4096
    assert connection.ask("much", timeout_s=20, worker=worker, data=part, times=8)[1] == 8 * part


def test_a_cache_that_is_full_loses_what_was_used_longest_ago(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    monkeypatch.setattr(agent, "CACHE_BYTES", 250)
    cache = agent.Cache(str(tmp_path_factory.mktemp("agent")))
    names = []
    for n in range(3):
        data = bytes([n]) * 100
        names.append(hashlib.sha256(data).hexdigest())
        cache.put(names[-1], data)
        time.sleep(0.02)
        if n:
            assert cache.has(names[0])
            time.sleep(0.02)
    assert [cache.has(name) for name in names] == [True, False, True]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "a" * 63, 7, None])
def test_artifacts_have_no_other_names_than_hashes(name: object) -> None:
    with pytest.raises(agent.RefusedError):
        agent.Cache("/nowhere").path(name)  # type: ignore[arg-type]


def test_what_arrives_changed_is_not_kept(connection: Connection) -> None:
    with pytest.raises(DeviceError, match="did not arrive"):
        connection.ask("put", timeout_s=5, data=b"other", sha256="0" * 64)
    assert connection.ask("has", timeout_s=5, sha256="0" * 64)[0] == {"has": False}


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_an_agent_survives_any_bytes(data: bytes) -> None:
    out = io.BytesIO()
    agent.serve(io.BytesIO(data), out, "/nowhere")
    assert replies(out) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.just(10**400) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
DOES = st.sampled_from(["hello", "has", "put", "open", "close", "run", "answer", "close", "__init__", "in_turn"])
FIELDS = st.sampled_from(["sha256", "worker", "source_bytes", "options", "timeout_s", "path", "steps"])


@settings(max_examples=500, deadline=None)
@given(DOES | JSON, st.dictionaries(FIELDS, JSON, max_size=4), st.binary(max_size=20))
def test_an_agent_answers_any_request(do: object, fields: dict[str, object], data: bytes) -> None:
    sent, out = io.BytesIO(), io.BytesIO()
    if do == "open":
        fields["options"] = None  # so that no process is started
    agent.write_frame(sent, {**fields, "do": do}, data)
    agent.serve(io.BytesIO(sent.getvalue()), out, "/nowhere")
    (reply,) = replies(out)
    assert "error" in reply or do in ("hello", "has", "close", "in_turn")


def replies(out: io.BytesIO) -> list[dict[str, object]]:
    out.seek(0)
    frames = iter(lambda: agent.read_frame(out.read), None)
    return [header for header, _ in frames]


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"Welcome to the board!\n" * 3,
        b"\xff" * 12,
        agent.LENGTHS.pack(2, 0) + b"{}",
        agent.LENGTHS.pack(2, 0) + b"[]",
        agent.LENGTHS.pack(4, 0) + b"\xff\xfe{}",
        agent.LENGTHS.pack(1 << 19, 0) + b"[" * (1 << 19),
        agent.LENGTHS.pack(100, 5) + b"{}",
        agent.LENGTHS.pack(17, 0) + json.dumps({"protocol": 999}).encode(),
        agent.LENGTHS.pack(30, 0) + b'{"error": [], "message": null}',
    ],
)
def test_what_is_no_agent_is_told_apart(says: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something else answers: a banner, garbage, lying lengths, another version."""
    monkeypatch.setattr("autoprune.devices._wire.START_SECONDS", 0.5)
    monkeypatch.setattr("autoprune.devices._wire.GRACE_SECONDS", 0.5)
    script = f"import sys,os; os.write(1, {says[:100]!r} + {len(says) - 100} * {says[-1:]!r}); sys.stdin.read()"
    with pytest.raises(AutopruneError, match="here"):
        Connection([sys.executable, "-c", script], "here")


def test_what_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.devices._wire.START_SECONDS", 0.2)
    monkeypatch.setattr("autoprune.devices._wire.GRACE_SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(DeviceError, match="in time"):
        Connection([sys.executable, "-c", "import time; time.sleep(1000)"], "here")
    assert time.monotonic() - began < 5


LIAR = """\
import json, struct, sys
replies = json.loads(sys.argv[1])
read, write = sys.stdin.buffer.read, sys.stdout.buffer.write
read(int(read(8)))
while True:
    lengths = read(12)
    if not lengths:
        break
    size, more = struct.unpack(">IQ", lengths)
    asked = json.loads(read(size))
    do = asked["do"]
    read(more)
    right = {
        "hello": {"protocol": 1, "facts": {}},
        "has": {"has": True},
        "open": {"worker": 1, "version": "1"},
        "lease": {"held": True},
        "foreign": {"seconds": 1.0},
    }
    def said(one):
        seconds = {"seconds": [1e-3 + 1e-6 * n for n in range(one.get("n", 0))]}
        return replies.get(one["do"], dict(right, run=seconds).get(one["do"], {}))
    right["in_turn"] = {"replies": [said(one) for one in asked.get("steps", ())]}
    text = json.dumps(said(asked)).encode()
    data = b"[{}]" if do == "profile" else b"1234"
    write(struct.pack(">IQ", len(text), len(data)) + text + data)
    sys.stdout.flush()
"""
WORDS = [
    *("hello", "has", "open", "run", "foreign", "in_turn", "renew", "conditions"),
    *("predict", "peak_memory", "profile", "lease"),
]
KEYS = [
    "protocol",
    "facts",
    "has",
    "worker",
    "version",
    "seconds",
    "conditions",
    "outputs",
    "peak_memory_bytes",
    "error",
    "replies",
]
LIES = st.dictionaries(
    st.sampled_from(WORDS), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3) | JSON, min_size=1, max_size=3
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIES)
@example({"foreign": {"seconds": 10**400}})
@example({"run": {"seconds": [10**400]}})
@example({"in_turn": {"replies": [{}, {}, {}, {"seconds": [math.inf]}, {"seconds": math.nan}]}})
def test_a_device_that_lies_gets_a_clear_error(
    artifact: Artifact, inputs: Arrays, profile: HardwareProfile, lies: dict[str, object]
) -> None:
    command = [sys.executable, "-S", "-c", LIAR, json.dumps(lies)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoprune.devices.ways.ssh.command", lambda *_: command)
        patch.setattr("autoprune.devices.remote.LEASE_SECONDS", 0.0)
        patch.setattr("autoprune.devices.remote.POLL_SECONDS", 0.0)
        device = SshDevice(profile.model_copy(update={"connection": "ssh://liar"}))
        for question in (
            device.facts,
            device.conditions,
            lambda: timed(device, artifact, inputs),
            lambda: predicted(device, artifact, inputs),
            lambda: device.peak_memory_bytes(artifact, inputs),
            lambda: device.profile_operators(artifact, inputs),
        ):
            with contextlib.suppress(AutopruneError):
                question()
        device.close()


def timed(device: RemoteDevice, artifact: Artifact, inputs: Arrays) -> None:
    policy = TimingPolicy(warmup_ms=1, block_ms=1, settle_percent=1000, max_seconds=0.1)
    with device.lease(), device.open(artifact, inputs) as session:
        found = measure(session, policy, device.circumstances("fp32"))
    assert found.median_ms > 0


def predicted(device: RemoteDevice, artifact: Artifact, inputs: Arrays) -> None:
    with device.predictor(artifact) as predict:
        assert all(isinstance(array, np.ndarray) for array in predict(inputs))


def test_a_lease_is_given_back_though_a_worker_was_started_meanwhile(connection: Connection) -> None:
    connection.ask("lease", timeout_s=5, name="meanwhile")
    opened(connection)
    connection.ask("release", timeout_s=5, name="meanwhile")
    assert connection.ask("lease", timeout_s=5, name="meanwhile")[0] == {"held": True}
    connection.ask("release", timeout_s=5, name="meanwhile")
