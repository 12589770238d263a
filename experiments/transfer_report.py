"""What a transfer found: the closing table, `shots.png` and `transfer.html`."""

import collections

import numpy as np

from experiments import picture_files
from geojax import files
from geojax.transfer import run as transfer
from geojax.views import report, shots

_ENCODERS = {
  "random": "random weights",
  "band_statistics": "band statistics",
  "random_convolutions": "random convolutions",
  transfer.CONSTANT: "best constant",
}
# Protocols that are drawn together with another's curves.
_TRAINED = ("finetune", "scratch", "pyramid", "core_unet")


def write(results, config, task_list, overlap: str, workdir) -> str:
  """Writes the picture and the page.

  Args:
    results: `results.Results` of a transfer.
    config: Its config.
    task_list: Its tasks.
    overlap: What is known of the overlap of the splits, a sentence.
    workdir: Its folder.

  Returns:
    The closing table, lines of text.
  """
  tables, panels = [], []
  for task in task_list:
    metric = task.best_metric.removeprefix(f"{task.name}_")
    words = next(m for m in task.metrics if m.name == task.best_metric).title
    means = _means(results.rows, task.name, metric)
    if means:
      tables.append(_table(task.name, words, means, config.encoder))
      panels += _panels(task.name, words, means, config.encoder)
  if not tables:
    return "no results: config.protocols or config.shots ask for none"
  figure = shots.curves(panels)
  picture_files.write(figure, workdir / "shots.png")
  page = report.render(
    title=f"geojax transfer: {files.absolute(workdir).name}",
    summary=(
      f"{config.data.name}, test split; means over the draws of labels."
      f" Encoder {config.encoder}: {overlap}."
    ),
    headline=tables[0],
    tables=tables[1:],
    pictures=[
      (
        "Test metric by number of labelled patches",
        (workdir / "shots.png").read_bytes(),
      )
    ],
    config=config.to_dict(),
    patches=(),
    climate_map=None,
  )
  files.write_text(workdir / "transfer.html", page)
  return "\n\n".join(map(_text, tables))


def _means(rows, task, metric):
  """Values over the seeds by encoder and protocol, then by shots."""
  found = collections.defaultdict(lambda: collections.defaultdict(list))
  for row in rows:
    if (row["task"], row["metric"]) == (task, metric):
      key = row["encoder"], row["protocol"]
      found[key][row["shots"]].append(row["value"])
  return found


def _order(number):
  return number or float("inf")


def _name(encoder, protocol, given):
  if protocol == transfer.CONSTANT:
    return "best constant"
  if protocol in ("scratch", "core_unet"):
    return f"{protocol} (random weights)"
  name = "encoder" if encoder == given else _ENCODERS.get(encoder, encoder)
  return f"{name}, {protocol}"


def _table(task, words, means, given):
  columns = sorted({n for by in means.values() for n in by}, key=_order)
  rows = []
  for (encoder, protocol), by in means.items():
    cells = [f"{np.mean(by[n]):.3f}" if n in by else "" for n in columns]
    rows.append((_name(encoder, protocol, given), tuple(cells)))
  return report.Table(
    title=f"{words} ({task}), by labelled patches a group",
    corner=task,
    columns=tuple(str(n) if n else "all" for n in columns),
    rows=tuple(sorted(rows, key=lambda row: row[0].split(", ")[-1])),
  )


def _panels(task, words, means, given):
  """A panel for each protocol on fixed features; trained ones are in each."""
  fixed = list(
    dict.fromkeys(
      protocol
      for _, protocol in means
      if protocol not in (*_TRAINED, transfer.CONSTANT)
    )
  )
  panels = []
  for protocol in fixed or [None]:
    listed = []
    for (encoder, of), by in means.items():
      if of not in (protocol, *_TRAINED, transfer.CONSTANT):
        continue
      numbers = tuple(sorted(by, key=_order))
      name = _name(encoder, of, given)
      listed.append(
        shots.Curve(
          name.removesuffix(f", {protocol}"),
          numbers,
          *(
            tuple(float(f(by[n])) for n in numbers)
            for f in (np.mean, np.min, np.max)
          ),
        )
      )
    panels.append((f"{task}: {protocol or 'trained'}", words, listed))
  return panels


def _text(table):
  width = max(len(name) for name, _ in table.rows) + 2
  lines = [
    table.title,
    " " * width + "".join(f"{name:>8}" for name in table.columns),
  ]
  lines += [
    f"{name:<{width}}" + "".join(f"{cell:>8}" for cell in cells)
    for name, cells in table.rows
  ]
  return "\n".join(lines)
