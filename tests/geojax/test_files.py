import subprocess
import sys

import pytest

from geojax import files


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / "a.json"
  files.write_text(path, "old")

  def fail():
    with files.atomic(path) as temporary:
      temporary.write_text("half")
      raise RuntimeError

  with pytest.raises(RuntimeError):
    fail()
  assert path.read_text() == "old"
  files.write_text(path, "new")
  assert path.read_text() == "new"
  assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_one_process_holds_a_lock(tmp_path):
  path = tmp_path / "folder" / ".lock"
  code = (
    "import pathlib, sys; from geojax import files\n"
    f"with files.lock(pathlib.Path({str(path)!r})):\n"
    "  print('held', flush=True); sys.stdin.read()"
  )
  with subprocess.Popen(
    [sys.executable, "-c", code],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as holder:
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(files.LockedError) as refused, files.lock(path):
      pass
    assert refused.value.holder == str(holder.pid)
    holder.kill()
  with files.lock(path):
    pass
