"""Runs a script on CPU devices in its own process: that of the tests has its devices already."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted({path.parent for path in (ROOT / "tests").rglob("*.py")})


def run(script: str, *arguments: str, flags: str | None = None, num: int = 8) -> dict | list:
    """What the script prints last, as JSON. It can import the package, and modules of tests/.

    It has `num` devices; or as many as `flags`, of XLA, and its own calls make.
    """
    forced = f"--xla_force_host_platform_device_count={num}"
    env = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {forced}" if flags is None else flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *FOLDERS))),
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=env, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
