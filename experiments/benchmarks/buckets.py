"""Records a second out of a bucket: by latency, threads, and from copies.

  python -m experiments.benchmarks.buckets --data=DIR [--name=geo_tiles/earth]

Starts a server of Google Cloud Storage's interface on this machine, copies the
records there and reads batches of 128 as training does, at an added latency of
0, 5 and 20 ms, with 2, 16 and 64 threads (`config.data.read_threads`), and from
copies (`config.data.cache_dir`). Prints a table in Markdown. The server shares
the machine's cores, which bounds the figures: compare those of a row.

With `--train` it trains core_atto instead, for 60 steps from the disk and from
the bucket without added latency, and prints the share of the time that a step
waits for its batch. Patches of 64 x 64 are built by

  python -m data_prep.build --config=earth --size=64 --block_deg=20 \
    --validation=0.1 --name=earth_64 --output=DIR
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from experiments.benchmarks import bucket_server
from geojax import files
from geojax.training import dataset as dataset_lib
from geojax.training import logs, pipeline

_ROOT = pathlib.Path(__file__).parents[2]
_BATCH_SIZE = 128
_LATENCIES_MS, _THREADS = (0, 5, 20), (2, 16, 64)
_SECONDS = 10.0


def read(data_dir: str, name: str, threads: int, cache_dir: str) -> float:
  """Reads batches for some seconds; returns records a second.

  Args:
    data_dir: Folder of the data set.
    name: Its name.
    threads: Threads that read.
    cache_dir: Folder for copies, or "".
  """
  dataset = dataset_lib.open_dataset(data_dir, name, cache_dir)
  batches = pipeline.train_batches(
    dataset.source("train"), batch_size=_BATCH_SIZE, seed=0, threads=threads
  )
  next(batches)
  start, count = time.perf_counter(), 0
  while (seconds := time.perf_counter() - start) < _SECONDS:
    next(batches)
    count += 1
  return count * _BATCH_SIZE / seconds


def _in_a_process(url, *arguments):
  """What another process, which does not share the proxy's lock, prints."""
  found = subprocess.run(
    [sys.executable, "-m", "experiments.benchmarks.buckets", *arguments],
    cwd=_ROOT,
    env={**os.environ, **bucket_server.environment(url)},
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(found.stdout.splitlines()[-1])


def table(data: pathlib.Path, name: str) -> str:
  """Measures reading; returns a table in Markdown.

  Args:
    data: Folder of the data set on this machine.
    name: Its name.
  """
  columns = [f"{threads} threads" for threads in _THREADS] + ["copies"]
  lines = ["| added latency | " + " | ".join(columns) + " |"]
  lines.append("|---|" + "--:|" * len(columns))
  with bucket_server.running() as proxy, tempfile.TemporaryDirectory() as cache:
    os.environ.update(bucket_server.environment(proxy.url))
    url = f"gs://{bucket_server.BUCKET}/data"
    _copy(data, name, url)
    for latency_ms in _LATENCIES_MS:
      proxy.latency_s = latency_ms / 1000
      cells = [
        _in_a_process(
          proxy.url, f"--data={url}", f"--name={name}", f"--threads={threads}"
        )
        for threads in _THREADS
      ]
      cells.append(
        _in_a_process(
          *(proxy.url, f"--data={url}", f"--name={name}", "--threads=2"),
          f"--cache_dir={cache}",
        )
      )
      lines.append(
        f"| {latency_ms} ms | " + " | ".join(f"{x:,.0f}" for x in cells) + " |"
      )
  return "\n".join(lines)


def waits(data: pathlib.Path, name: str):
  """Trains from disk and from the bucket; yields a line of text each.

  Args:
    data: Folder of the data set on this machine.
    name: Its name.
  """
  with bucket_server.running() as proxy, tempfile.TemporaryDirectory() as temp:
    os.environ.update(bucket_server.environment(proxy.url))
    url = f"gs://{bucket_server.BUCKET}/data"
    _copy(data, name, url)
    for where, data_dir in (("disk", str(data)), ("bucket", url)):
      workdir = pathlib.Path(temp, where)
      subprocess.run(
        [sys.executable, "experiments/main.py", f"--workdir={workdir}"]
        + ["--config=experiments/configs/base.py", "--config.num_steps=60"]
        + ["--config.model.name=core", "--config.model.size=atto"]
        + ["--config.model.depths=()", "--config.model.widths=()"]
        + ["--config.model.patch_size=1", "--config.log_every=20"]
        + ["--config.mixture.num_centers=64", "--config.eval_every=1000"]
        + ["--config.data.batch_size=32"]
        + [f"--config.data.dir={data_dir}", f"--config.data.name={name}"],
        cwd=_ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
      )
      # Without the first line, which has the compilation.
      found = [x for x in logs.read_metrics(workdir) if x["split"] == "train"]
      shares = [line["data_wait_fraction"] for line in found[1:]]
      speeds = [line["patches_per_second"] for line in found[1:]]
      yield (
        f"{where}: {sum(speeds) / len(speeds):,.0f} patches/s, waits"
        f" {100 * sum(shares) / len(shares):.1f} % of the time"
      )


def _copy(data, name, url):
  for path in sorted((data / name).rglob("*")):
    if path.is_file():
      files.copy_from(path, files.path(url) / path.relative_to(data).as_posix())


def main():
  """Runs the measurements that the command line asks for."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--data", required=True, help="folder of the data set")
  parser.add_argument("--name", default="geo_tiles/earth", help="its name")
  parser.add_argument("--train", action="store_true", help="waits in training")
  parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
  parser.add_argument("--cache_dir", default="", help=argparse.SUPPRESS)
  given = parser.parse_args()
  if given.threads:
    print(read(given.data, given.name, given.threads, given.cache_dir))
  elif given.train:
    for line in waits(pathlib.Path(given.data), given.name):
      print(line, flush=True)
  else:
    print(table(pathlib.Path(given.data), given.name))


if __name__ == "__main__":
  main()
