"""Curves of a metric over the number of labelled examples."""

import dataclasses

import matplotlib.figure

from geojax.views import scales

_COLOURS = (
  *(scales.BLUE, scales.ORANGE, scales.GREEN, scales.GREY),
  *("#cc79a7", "#56b4e9", "#e69f00"),
)
_COLUMNS = 2


@dataclasses.dataclass(frozen=True)
class Curve:
  """A curve of a panel.

  Attributes:
    name: Its entry in the legend.
    shots: Numbers of examples, 0 for all.
    mean: Mean over the draws at each of them.
    low: Lowest of the draws.
    high: Highest of the draws.
  """

  name: str
  shots: tuple[int, ...]
  mean: tuple[float, ...]
  low: tuple[float, ...]
  high: tuple[float, ...]


def curves(panels) -> matplotlib.figure.Figure:
  """Draws a panel of curves for each task and protocol.

  Args:
    panels: Tuples of a title, the metric's words and a list of `Curve`s.

  Returns:
    The figure. Bars reach from the lowest to the highest of the draws.
  """
  columns = min(_COLUMNS, len(panels))
  rows = -(-len(panels) // columns)
  figure = matplotlib.figure.Figure(
    figsize=(5.2 * columns, 3.9 * rows), layout="constrained"
  )
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  # A name has one colour in all panels.
  names = list(dict.fromkeys(c.name for _, _, listed in panels for c in listed))
  drawn = {}
  for axes, (title, words, listed) in zip(grid, panels, strict=False):
    shots = sorted(
      {shots for curve in listed for shots in curve.shots},
      key=lambda number: number or float("inf"),
    )
    for curve in listed:
      at = [shots.index(number) for number in curve.shots]
      # Rounding carries the mean of equal draws beyond them.
      below = [
        max(m - a, 0) for m, a in zip(curve.mean, curve.low, strict=True)
      ]
      above = [
        max(b - m, 0) for m, b in zip(curve.mean, curve.high, strict=True)
      ]
      # Shifted a little, so that bars do not hide one another.
      index = names.index(curve.name)
      shift = 0.06 * (index - (len(names) - 1) / 2)
      drawn[curve.name] = axes.errorbar(
        [x + shift for x in at],
        curve.mean,
        yerr=[below, above],
        marker="o",
        markersize=4,
        linewidth=1.5,
        elinewidth=1,
        color=_COLOURS[index % len(_COLOURS)],
        label=curve.name,
      )
    axes.set_xticks(range(len(shots)), [str(n) if n else "all" for n in shots])
    axes.set_xlim(-0.5, len(shots) - 0.5)
    axes.set_xlabel("labelled patches a group")
    axes.set_ylabel(words)
    axes.set_title(title, fontsize=10)
    axes.grid(axis="y", alpha=0.3)
  for axes in grid[len(panels) :]:
    axes.set_axis_off()
  # Outside, where it hides no curve.
  figure.legend(
    drawn.values(),
    drawn.keys(),
    loc="outside lower center",
    ncols=4,
    frameon=False,
    fontsize=9,
  )
  return figure
