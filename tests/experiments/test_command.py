"""What all commands share."""

import subprocess
import sys

_CHILD = """
import jax
from experiments import command
from experiments.benchmarks import memory

command.keep_freed_memory_low()
events = []
jax.monitoring.register_event_duration_secs_listener(
  lambda event, *_, **__: events.append(event)
)
jax.jit(lambda x: x + 1)(1)
assert command._COMPILED in events, events

before = memory.resident_mib()
blocks = [bytearray(b"1" * 2**16) for _ in range(3200)]
# One block that stays keeps the heap from shrinking by itself.
del blocks[:-1]
for seconds in (0.5, 2.0):
  jax.monitoring.record_event_duration_secs(command._COMPILED, seconds)
  print(memory.resident_mib() - before)
"""


def test_what_a_long_compilation_freed_is_returned():
  done = subprocess.run(
    [sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True
  )
  after_a_short_one, after_a_long_one = map(float, done.stdout.split())
  assert after_a_short_one > 150
  assert after_a_long_one < 30
