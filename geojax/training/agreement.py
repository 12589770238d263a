"""Agreement of all processes of a run before its first step.

Processes with another config, data set or code would train on without an error,
on numbers that no single process could reproduce, or wait for one another
without end. They exchange what must be equal, and each of them reports the
differences.
"""

import collections
import hashlib
import importlib.metadata
import importlib.util
import json
import pathlib
import socket

import jax
import numpy as np
from jax.experimental import multihost_utils

import geojax
from geojax.training import config as config_lib
from geojax.training import data_info
from geojax.training.errors import AgreementError

# Packages whose releases can change a program or the order of the records.
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy")
# The only fact of a process that cannot start.
_ERROR = "error"
# What a message lists; all of a long difference rarely says more.
_SHOWN_DIFFERENCES = 10
_SHOWN_CHARACTERS = 80


def agree(config, prepare):
  """Runs `prepare` on every process, and compares what they will train.

  With a single process, runs `prepare` alone.

  Args:
    config: The config of the run.
    prepare: A function without arguments that checks the config and returns a
      `dataset.Dataset`.

  Returns:
    The data set of this process.

  Raises:
    AgreementError: The processes differ, or some of them cannot start; raised
      on all of them, with the host of each.
    Exception: What `prepare` raised, if it raised the same on all processes.
  """
  if jax.process_count() == 1:
    return prepare()
  _check_devices([device.process_index for device in jax.devices()])
  dataset, error = None, None
  try:
    dataset = prepare()
    facts = describe(config, dataset)
  except Exception as raised:
    # Whatever it is, the other processes must not wait for this one.
    error = raised
    facts = {_ERROR: f"{type(raised).__name__}: {raised}"}
  if found := differences(_gather(facts)):
    raise AgreementError(found)
  if error is not None:
    raise error
  return dataset


def describe(config, dataset) -> dict:
  """Lists what must be equal on all processes of a run.

  Args:
    config: The config of the run.
    dataset: Its `dataset.Dataset`.

  Returns:
    Values of JSON's types by name: each key of the config, the description and
    number of records of the data set, versions, hashes of source code, and the
    rows of a batch that this process reads.
  """
  info = data_info.to_dict(data_info.describe(config.data.name, dataset))
  splits = dataset.builder.info.splits
  shared = config_lib.flatten(config.to_dict())
  for key in config_lib.MACHINE_KEYS:
    del shared[key]
  facts = {
    "config": shared,
    "dataset": {
      **info,
      "version": str(dataset.builder.version),
      "num_records": {name: splits[name].num_examples for name in splits},
    },
    "version": {
      "geojax": geojax.__version__,
      **{name: importlib.metadata.version(name) for name in _PACKAGES},
    },
    "source_sha256": {
      "geojax": _hash_source(pathlib.Path(geojax.__file__).parent),
      **{name: _hash_extension(name) for name in config.extensions},
    },
    "device_kind": jax.local_devices()[0].device_kind,
    "rows": config.data.batch_size
    * jax.local_device_count()
    // jax.device_count(),
  }
  return config_lib.flatten(json.loads(json.dumps(facts)))


def differences(facts_by_host: dict[str, dict]) -> str:
  """Compares the facts of all hosts.

  Args:
    facts_by_host: Results of `describe`, or `{"error": text}` of a host that
      cannot start, by the host's name, in the order of the processes.

  Returns:
    A message that names each host that differs, with its value and that of
    most hosts (of the first one, where no value has a majority); "" if all
    agree.
  """
  hosts = list(facts_by_host)
  errors = {host: facts.get(_ERROR) for host, facts in facts_by_host.items()}
  if len(set(errors.values())) > 1:
    return _join(
      "some processes of this run cannot start",
      [f"{host}: {error}" for host, error in errors.items() if error],
    )
  keys = dict.fromkeys(key for facts in facts_by_host.values() for key in facts)
  lines = []
  for key in keys:
    values = [json.dumps(facts_by_host[host].get(key)) for host in hosts]
    # The first of those that are equally frequent.
    usual, count = collections.Counter(values).most_common(1)[0]
    if count == len(hosts):
      continue
    reference = hosts[values.index(usual)]
    lines += [
      f"{host}: {key} is {_shorten(value)}, but {_shorten(usual)} on"
      f" {reference}"
      for host, value in zip(hosts, values, strict=True)
      if value != usual
    ]
  return _join(
    "the processes of this run differ; start all of them with the same command,"
    " data set, code and packages",
    lines,
  )


def _join(head, lines):
  if not lines:
    return ""
  shown = lines[:_SHOWN_DIFFERENCES]
  if len(lines) > len(shown):
    shown.append(f"and {len(lines) - len(shown)} more")
  return "\n  ".join((f"{head}:", *shown))


def _shorten(value):
  if len(value) <= _SHOWN_CHARACTERS:
    return value
  return value[:_SHOWN_CHARACTERS] + "..."


def _check_devices(process_indices):
  """Refuses processes with unequal numbers of devices.

  Every process knows all devices; to exchange facts takes equal numbers.
  """
  counts = collections.Counter(process_indices)
  if len(set(counts.values())) > 1:
    listed = ", ".join(f"process {i}: {counts[i]}" for i in sorted(counts))
    raise AgreementError(
      "the processes of this run have different numbers of devices, so that"
      f" they cannot take equal rows of a batch: {listed}. Look at the drivers"
      " and at JAX's log on the host that has too few"
    )


def _gather(facts) -> dict[str, dict]:
  """Returns the facts of each process, by host and number of the process.

  Facts take some kilobytes. While they are equal, only hashes are exchanged.
  """
  own = json.dumps({"host": socket.gethostname(), "facts": facts}).encode()
  digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()
  head = digest + len(own).to_bytes(8, "little")
  heads = _exchange(head)
  if len({head[: len(digest)] for head in heads}) == 1:
    return {}
  lengths = [int.from_bytes(head[len(digest) :], "little") for head in heads]
  # Arrays must have one shape on all processes.
  padded = _exchange(own.ljust(max(lengths), b"\0"))
  gathered = {}
  for index, (content, length) in enumerate(zip(padded, lengths, strict=True)):
    found = json.loads(content[:length])
    gathered[f"{found['host']} (process {index})"] = found["facts"]
  return gathered


def _exchange(content: bytes) -> list[bytes]:
  """Returns the bytes of each process, as many of all of them."""
  gathered = multihost_utils.process_allgather(np.frombuffer(content, np.uint8))
  return [row.tobytes() for row in gathered]


def _hash_source(folder):
  """Hash of all Python files in a folder, their names and content."""
  found = hashlib.sha256()
  for path in sorted(folder.rglob("*.py")):
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    found.update(f"{path.relative_to(folder)} {content}\n".encode())
  return found.hexdigest()


def _hash_extension(name):
  """Hash of one of `config.extensions`, a file or a module."""
  path = name
  if not name.endswith(".py"):
    path = importlib.util.find_spec(name).origin
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
