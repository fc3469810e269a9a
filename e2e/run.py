"""The clients that people have, each in an environment of its own, against a really served practice model.

python e2e/run.py [NAME ...]       openai, litellm, langchain, lm-eval, inspect, pyrit, garak; by itself the first three
"""

from __future__ import annotations

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
from safetylayers.oversee.policy.policy import default_policy

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


@contextmanager
def served(model: str) -> Iterator[tuple[str, str]]:
    """Serve a model; give the address and a key."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(sys.executable).with_name("safetylayers"))
        policy = default_policy()
        # lm-eval wants to know whether an answer is the likeliest one.
        limits = policy.limits.model_copy(update={"alternatives": 5})
        Path(folder, "policy.yaml").write_text(policy.model_copy(update={"limits": limits}).as_yaml())
        command = [program, "serve", model, "--data", f"{folder}/data", "--port", str(port)]
        command += ["--policy", f"{folder}/policy.yaml"]
        with subprocess.Popen(command) as serving:
            try:
                address = f"http://127.0.0.1:{port}"
                _wait(address, serving)
                yield f"{address}/v1", Path(folder, "data", "caller.key").read_text().strip()
            finally:
                serving.terminate()


def _wait(address: str, serving: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{address}/ready").is_success:
                return
        except httpx.HTTPError:
            pass
        if serving.poll() is not None:
            sys.exit("the server ended")
        time.sleep(0.2)
    sys.exit("the server does not answer")


def environment(name: str) -> Path:
    """Return the interpreter of a client's environment, made where it is missing."""
    folder = HERE / ".environments" / name
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
        install = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python]
        subprocess.run([*install, *PACKAGES[name]], check=True)
        (folder / "made").touch()
    return python


def main() -> int:
    """Run the clients that were named; return how many failed."""
    names = sys.argv[1:] or list(QUICK)
    if unknown := sorted(set(names) - set(PACKAGES)):
        sys.exit(f"no such client: {', '.join(unknown)}; there are {', '.join(PACKAGES)}")
    pythons = {name: environment(name) for name in names}
    failed = []
    served_model = os.environ.get("MODEL", "tiny")
    with served(served_model) as (address, key):
        model = httpx.get(f"{address}/models", headers={"authorization": f"Bearer {key}"}).json()["data"][0]["id"]
        settings = {**os.environ, "OPENAI_BASE_URL": address, "OPENAI_API_KEY": key, "MODEL": model, "PYTHONPATH": ""}
        settings["TOKENIZER"] = str(folder_of(served_model))
        for name, python in pythons.items():
            script = HERE / "clients" / f"ask_{name.replace('-', '_')}.py"
            if subprocess.run([python, script], env=settings, check=False).returncode:
                failed.append(name)
    print(f"{len(names) - len(failed)} of {len(names)} clients were answered", *failed)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
