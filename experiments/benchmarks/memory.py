"""The memory that a process needs at its peak."""

import pathlib


def peak_mib() -> float:
  """Peak resident size of this process so far, in MiB, on Linux.

  Not that of `resource.getrusage`, which starts at the peak of whoever started
  the process.
  """
  status = pathlib.Path("/proc/self/status").read_text()
  (line,) = (x for x in status.splitlines() if x.startswith("VmHWM:"))
  return int(line.split()[1]) / 1024
