"""Stubs of the services that scripts start runs on.

A stub writes its arguments to a log and ends with the next status it is given.
"""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "experiments" / "launch"
# A space in each value, and what a shell would expand.
WORKDIR = "gs://bucket/runs/a b"
DATA = "gs://bucket/$HOME data"
OPTION = "--config.tasks=('coords', 'date')"
EXPECTED = (
  f"--workdir={WORKDIR}",
  f"--config.data.dir={DATA}",
  "--config.step_deadline_s=600",
  OPTION,
)
_STUB = """#!/usr/bin/env bash
name=$(basename "$0")
{ printf '%s\\0' "$name" "$@"; printf '\\n\\0'; } >> "$STUBS/log"
[ ! -e "$STUBS/$name.sh" ] || source "$STUBS/$name.sh"
code=$(head -n 1 "$STUBS/$name.codes" 2> /dev/null || echo 0)
sed -i 1d "$STUBS/$name.codes" 2> /dev/null
exit "${code:-0}"
"""


class Stubs:
  """Stubs of commands in a folder, and the calls of them."""

  def __init__(self, folder):
    self.folder = folder
    self.environment = {
      "PATH": f"{folder}:{os.environ['PATH']}",
      "STUBS": str(folder),
      "HOME": str(folder),
      "PYTHON": "python",
      "WORKDIR": WORKDIR,
      "DATA": DATA,
    }

  def add(self, name, *codes, body=""):
    """Adds a stub with its exit statuses, and what it does before."""
    path = self.folder / name
    path.write_text(_STUB)
    path.chmod(0o755)
    (self.folder / f"{name}.codes").write_text(
      "".join(f"{code}\n" for code in codes)
    )
    (self.folder / f"{name}.sh").write_text(body)

  def calls(self, name=None):
    """Returns the words of each call, of all stubs or of one."""
    log = self.folder / "log"
    content = log.read_text() if log.exists() else ""
    calls = [call.split("\0")[:-1] for call in content.split("\n\0")[:-1]]
    return [call for call in calls if name in (None, call[0])]

  def run(self, *command, **environment):
    """Runs a command with the stubs; returns its status and standard error."""
    done = subprocess.run(
      command,
      cwd=ROOT,
      env={**self.environment, **environment},
      capture_output=True,
      text=True,
      check=False,
      timeout=60,
    )
    return done.returncode, done.stderr
