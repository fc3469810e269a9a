"""What the gateway costs: added latency and requests per second, against LiteLLM's proxy.

python benchmarks/gateway.py [--seconds 5] [--rounds 3] [--without-litellm]

All stand in front of the same mock upstream, on one machine, in turn within each round. Needs `wrk` (Debian's package),
and installs LiteLLM into an environment of its own beside this file. Requests per second and core divide by the
processor time of the proxy's own processes.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

HERE = Path(__file__).parent
LITELLM = "litellm[proxy]==1.106.*"
CLIENTS = (1, 4, 16, 64)
BODY = json.dumps({"model": "mock", "messages": [{"role": "user", "content": "What is the capital of France?"}]})
SCRIPT = """
wrk.method = "POST"
wrk.body = %(body)s
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %(key)s"
done = function(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%d %%f %%f %%f\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.read + summary.errors.connect + summary.errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""
PLAIN = "version: 1\nname: plain\nlimits: {concurrent: 1000}\n"


@dataclass
class Target:
    """Something that requests are sent to."""

    name: str
    address: str
    key: str
    process: subprocess.Popen[bytes]


@dataclass
class Measured:
    """One run."""

    per_second: float
    errors: int
    p50: float
    p95: float
    p99: float
    cores: float


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for as long as the block lasts."""
    with tempfile.TemporaryFile() as output:
        started = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
        try:
            yield started
        finally:
            started.terminate()
            started.wait(20)


def wait_for(address: str, key: str, running: subprocess.Popen[bytes]) -> None:
    """Wait until a target answers a whole request."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    for _ in range(600):
        try:
            if httpx.post(f"{address}/v1/chat/completions", content=BODY, headers=headers, timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        if running.poll() is not None:
            sys.exit(f"{running.args}: ended with {running.returncode}")
        time.sleep(0.1)
    sys.exit(f"{address}: does not answer")


@contextmanager
def ours(name: str, upstream: str, policy: str | None) -> Iterator[Target]:
    """Our gateway, with its audit log on."""
    with tempfile.TemporaryDirectory() as folder:
        data, port = Path(folder) / "data", free_port()
        options = ["--upstream", f"{upstream}/v1", "--data", str(data), "--port", str(port)]
        if policy:
            (Path(folder) / "policy.yaml").write_text(policy)
            options += ["--policy", f"{folder}/policy.yaml"]
        program = str(Path(sys.executable).with_name("safetylayers"))
        with process(program, "serve", *options) as running:
            while not (data / "caller.key").exists() and running.poll() is None:
                time.sleep(0.1)
            time.sleep(0.2)
            key, address = (data / "caller.key").read_text().strip(), f"http://127.0.0.1:{port}"
            wait_for(address, key, running)
            yield Target(name, address, key, running)


@contextmanager
def litellm(upstream: str) -> Iterator[Target]:
    """LiteLLM's proxy."""
    environment = HERE / ".venv-litellm"
    program = environment / "bin" / "litellm"
    if not program.exists():
        venv.create(environment, with_pip=True)
        subprocess.run([environment / "bin" / "pip", "install", "--quiet", LITELLM], check=True)
    with tempfile.TemporaryDirectory() as folder:
        config, port = Path(folder) / "config.yaml", free_port()
        model = {"model": "openai/mock", "api_base": f"{upstream}/v1", "api_key": "none"}
        config.write_text(json.dumps({"model_list": [{"model_name": "mock", "litellm_params": model}]}))
        command = (str(program), "--config", str(config), "--port", str(port), "--host", "127.0.0.1")
        quiet = {"LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        key = f"sk-{secrets.token_hex(16)}"
        with process(*command, **quiet, LITELLM_MASTER_KEY=key) as running:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, key, running)
            yield Target("LiteLLM", address, key, running)


@contextmanager
def mock() -> Iterator[Target]:
    """The upstream itself."""
    port = free_port()
    with process(sys.executable, str(HERE / "mock_upstream.py"), str(port)) as running:
        wait_for(f"http://127.0.0.1:{port}", "none", running)
        yield Target("mock alone", f"http://127.0.0.1:{port}", "none", running)


def processor_seconds(target: Target) -> float:
    """Return the processor time that a process and its children have used."""
    ticks, waiting = 0, [target.process.pid]
    while waiting:
        pid = waiting.pop()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        waiting += [int(child) for child in children]
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(target: Target, clients: int, seconds: int) -> Measured:
    """Send requests for a while."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % {"body": json.dumps(BODY), "key": target.key})
        script.flush()
        address = f"{target.address}/v1/chat/completions"
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "20s", "-s", script.name, address]
        before = processor_seconds(target)
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        used = processor_seconds(target) - before
    found = next(line for line in output.splitlines() if line.startswith("RESULT")).split()[1:]
    requests, microseconds, errors, p50, p95, p99 = map(float, found)
    wall = microseconds / 1e6
    return Measured(requests / wall, int(errors), p50 / 1000, p95 / 1000, p99 / 1000, used / wall)


def middle(runs: list[Measured]) -> Measured:
    """Return each number's median."""
    values = [[getattr(run, name) for run in runs] for name in ("per_second", "errors", "p50", "p95", "p99", "cores")]
    return Measured(*[statistics.median(column) for column in values])  # type: ignore[arg-type]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-litellm", action="store_true")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("This needs wrk: apt-get install wrk")
    with ExitStack() as stack:
        upstream = stack.enter_context(mock())
        targets = [upstream, stack.enter_context(ours("ours, audit, no guards", upstream.address, PLAIN))]
        targets.append(stack.enter_context(ours("ours, default policy", upstream.address, None)))
        if not options.without_litellm:
            targets.append(stack.enter_context(litellm(upstream.address)))
        for target in targets:
            measure(target, 16, 2)  # warm
        print(f"{'clients':>7}  {'target':24} {'req/s':>8} {'/core':>8} {'p50 ms':>8} {'p95':>8} {'p99':>8} errors")
        for clients in CLIENTS:
            runs: dict[str, list[Measured]] = {target.name: [] for target in targets}
            for _ in range(options.rounds):
                for target in targets:
                    runs[target.name].append(measure(target, clients, options.seconds))
            report(clients, {name: middle(found) for name, found in runs.items()})


def report(clients: int, found: dict[str, Measured]) -> None:
    """Print one number of clients; latencies are what each adds to the mock's own."""
    base = found["mock alone"]
    for name, run in found.items():
        added = run if run is base else Measured(0, 0, run.p50 - base.p50, run.p95 - base.p95, run.p99 - base.p99, 0)
        print(
            f"{clients:>7}  {name:24} {run.per_second:8.0f} {run.per_second / max(run.cores, 1e-9):8.0f} "
            f"{added.p50:8.1f} {added.p95:8.1f} {added.p99:8.1f} {run.errors:6.0f}"
        )
    if "LiteLLM" in found:
        rival = found["LiteLLM"].per_second
        ratios = [f"{name} {run.per_second / rival:.1f}x" for name, run in found.items() if name.startswith("ours")]
        print(f"{'':7}  requests/s against LiteLLM: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
