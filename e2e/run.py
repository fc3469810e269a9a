"""The clients that people have, each in an environment of its own, against a really served practice model.

With MODEL=FOLDER in the environment, that model is served in place of `tiny`.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from safetylayers.models.loading import folder_of
from safetylayers.oversee.policy.policy import GuardRule, default_policy

HERE = Path(__file__).parent
PACKAGES = {
    "openai": ("openai>=3,<4",),
    "litellm": ("litellm==1.106.*",),
    "langchain": ("langchain-openai>=1,<2",),
    "lm-eval": ("lm-eval[api]==0.4.13", "transformers>=5,<6", "jinja2"),
    "inspect": ("inspect-ai==0.3.285", "openai"),
    "pyrit": ("pyrit==1.1.0",),
    "garak": ("garak==0.17.1",),
}
QUICK = ("openai", "litellm", "langchain")
WITHHELD = "What is behind K-1234?"
"""A prompt that the policy blocks."""
CLIENT_SECONDS = 600
"""How long one client may take; some ask again for ever when they get no answer."""


def policy() -> str:
    """Return the default policy, with one likely token beside each for lm-eval, and with something to withhold."""
    default = default_policy()
    limits = default.limits.model_copy(update={"alternatives": 1})
    codes = GuardRule(kind="patterns", settings={"patterns": {"code": "K-[0-9]{4}"}})
    return default.model_copy(update={"limits": limits, "guards": default.guards | {"codes": codes}}).as_yaml()


@contextmanager
def served(model: str) -> Iterator[tuple[str, str]]:
    """Serve a model; give the address and a key."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder, program = Path(name), str(Path(sys.executable).with_name("safetylayers"))
        Path(folder, "policy.yaml").write_text(policy())
        command = [program, "serve", model, "--data", f"{folder}/data", "--port", str(port)]
        command += ["--policy", f"{folder}/policy.yaml"]
        log = folder / "log"
        with log.open("wb") as told, subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT) as serving:
            try:
                address = f"http://127.0.0.1:{port}"
                _wait(address, serving, log)
                yield f"{address}/v1", Path(folder, "data", "caller.key").read_text().strip()
            finally:
                serving.terminate()


def _wait(address: str, serving: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{address}/ready").is_success:
                return
        except httpx.HTTPError:
            pass
        if serving.poll() is not None:
            sys.exit(f"{log.read_text()}\nthe server ended")
        time.sleep(0.2)
    sys.exit(f"{log.read_text()}\nthe server does not answer")


def environment(name: str) -> Path:
    """Return the interpreter of a client's environment, made where it is missing or another version is wanted."""
    folder = HERE / ".environments" / name
    python, made, wanted = folder / "bin" / "python", folder / "made", "\n".join(PACKAGES[name])
    if not (made.exists() and made.read_text() == wanted):
        print(f"{name}: making its environment, once; this may take minutes", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
        install = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python]
        subprocess.run([*install, *PACKAGES[name]], check=True)
        made.write_text(wanted)
    return python


def answered(name: str, python: Path, settings: dict[str, str]) -> bool:
    """Run a client; print what it found, or all that it said where it failed."""
    script = HERE / "clients" / f"ask_{name.replace('-', '_')}.py"
    try:
        done = subprocess.run(
            [python, script], env=settings, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"{name}: FAILED: no end after {CLIENT_SECONDS} seconds", flush=True)
        return False
    if done.returncode:
        print(f"{done.stdout}{done.stderr}\n{name}: FAILED", flush=True)
    else:
        print(done.stdout.strip().splitlines()[-1], flush=True)
    return not done.returncode


def main() -> int:
    """Run the clients that were named; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = f"{', '.join(PACKAGES)}; by itself {', '.join(QUICK)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=told)
    names = parser.parse_args().names or QUICK
    if unknown := sorted(set(names) - set(PACKAGES)):
        parser.error(f"no such client: {', '.join(unknown)}; there are {', '.join(PACKAGES)}")
    pythons = {name: environment(name) for name in names}
    served_model = os.environ.get("MODEL", "tiny")
    with served(served_model) as (address, key):
        model = httpx.get(f"{address}/models", headers={"authorization": f"Bearer {key}"}).json()["data"][0]["id"]
        settings = {**os.environ, "OPENAI_BASE_URL": address, "OPENAI_API_KEY": key, "MODEL": model, "PYTHONPATH": ""}
        settings |= {"TOKENIZER": str(folder_of(served_model) or served_model), "WITHHELD": WITHHELD}
        failed = [name for name, python in pythons.items() if not answered(name, python, settings)]
    print(f"{len(pythons) - len(failed)} of {len(pythons)} clients pass", *(["but not", *failed] if failed else []))
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
