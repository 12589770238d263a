"""Draws docs/architecture.svg: the parts of geojax, by what each imports.

  python docs/draw_architecture.py

Parts and arrows are read from the import statements; only the descriptions, and
which modules make a part, stand here. An arrow leads from a part to one that it
imports, and is left out where a longer way of arrows leads there too.
"""

import ast
import html
import pathlib
import textwrap

_ROOT = pathlib.Path(__file__).parents[1]
_PICTURE = _ROOT / "docs" / "architecture.svg"

# Modules that make a part, its lane, and what it does. All modules of geojax in
# no part are the mathematics.
_PARTS = {
  "experiments": ((), "all", "commands, configs, benchmarks"),
  "data_prep": ((), "left", "sources, tiles, labels, splits, records"),
  "predict": (
    ("predict", "prediction", "predictor"),
    "main",
    "a trained run as a function",
  ),
  "transfer": (("transfer",), "main", "cached features, probes, fine-tuning"),
  "training": (
    ("training",),
    "main",
    "records, batches, one step, checkpoints, one loop",
  ),
  "tasks": (("tasks",), "main", "head, loss, decoding, metrics"),
  "evaluation": (
    ("evaluation",),
    "main",
    "metrics, groups, intervals, baselines",
  ),
  "models": (("models",), "main", "encoders, heads, PyTorch weights"),
  "views": (("views",), "right", "pictures and the report, from arrays"),
  "mathematics": ((), "all", "pure functions: no Flax, no config"),
}
# Imported from all parts: left out of the picture.
_EVERYWHERE = ("files",)
_COLORS = {"data_prep": "#e8f3e4", "experiments": "#fdf0dc"}
_COLOR = "#e6edf8"
_WIDTH, _GAP, _LINE = 960, 20, 16
_LANES = {"all": (20, 940), "left": (20, 210), "main": (230, 730)}
_LANES["right"] = (750, 940)
_ARROW = 34


def read_imports(root=_ROOT):
  """Which modules make each part, and which parts each part imports.

  Returns:
    Two dicts by the name of a part: sorted module names, and sets of parts.
  """
  modules, imports = {}, {}
  for folder in ("geojax", "data_prep", "experiments"):
    for path in sorted((root / folder).rglob("*.py")):
      names = path.relative_to(root).with_suffix("").parts
      if names[1] in ("__init__", *_EVERYWHERE):
        continue
      part = _part(names)
      name = names[2] if names[1] == part and names[2:] else names[1]
      modules.setdefault(part, set()).add(name)
      imports.setdefault(part, set())
      for node in ast.walk(ast.parse(path.read_text())):
        for name in _imported(node):
          other = name.split(".")
          if other[0] in ("geojax", "data_prep", "experiments"):
            imports[part].add(_part(other))
  for part, others in imports.items():
    others -= {part, None}
  return {part: sorted(names) for part, names in modules.items()}, imports


def levels(imports):
  """Height of each part: one more than that of the highest it imports.

  Raises:
    ValueError: If imports form a cycle; names it.
  """

  def level(part, path=()):
    path = (*path, part)
    if part in path[:-1]:
      raise ValueError(f"imports form a cycle: {' -> '.join(path)}")
    return max((level(other, path) + 1 for other in imports[part]), default=0)

  return {part: level(part) for part in imports}


def direct(imports):
  """The imports but for those that a longer way of imports implies."""
  reached = {}

  def reach(part):
    if part not in reached:
      others = imports[part]
      reached[part] = others.union(*(reach(other) for other in others))
    return reached[part]

  return {
    part: {
      other
      for other in others
      if not any(other in reach(third) for third in others)
    }
    for part, others in imports.items()
  }


def draw(root=_ROOT):
  """Returns the picture as SVG."""
  modules, imports = read_imports(root)
  level_of = levels(imports)
  # The mathematics alone are the ground.
  for part in level_of.keys() - {"mathematics"}:
    level_of[part] = max(level_of[part], 1)
  boxes, top = {}, _GAP
  for level in sorted(set(level_of.values()), reverse=True):
    row = [part for part in _PARTS if level_of.get(part) == level]
    height = 0
    for lane, (left, right) in _LANES.items():
      parts = [part for part in row if _PARTS[part][1] == lane]
      width = (right - left - _GAP * (len(parts) - 1)) / max(1, len(parts))
      for i, part in enumerate(parts):
        x = left + i * (width + _GAP)
        lines = _lines(part, modules[part], width)
        boxes[part] = x, x + width, top, lines
        height = max(height, _LINE * len(lines) + 34)
    for part in row:
      left, right, top, lines = boxes[part]
      boxes[part] = left, right, top, top + height, lines
    top += height + _ARROW
  height = top - _ARROW + _GAP
  lines, taken = [], []
  for part, others in direct(imports).items():
    for other in sorted(others):
      lines.append(_arrow(boxes, part, other, taken))
  return "\n".join(
    [
      f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH}'
      f' {height}" font-family="sans-serif" font-size="12">',
      '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4"'
      ' markerWidth="7" markerHeight="7" orient="auto">'
      '<path d="M0 0 8 4 0 8z" fill="#667"/></marker></defs>',
      f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
      *lines,
      *(_box(part, *box) for part, box in boxes.items()),
      "</svg>\n",
    ]
  )


def _part(names):
  """The part that a module belongs to, None for those left out."""
  if names[0] != "geojax":
    return names[0]
  if not names[1:] or names[1] in _EVERYWHERE:
    return None
  for part, (members, *_) in _PARTS.items():
    if names[1] in members:
      return part
  return "mathematics"


def _imported(node):
  if isinstance(node, ast.Import):
    return [alias.name for alias in node.names]
  if isinstance(node, ast.ImportFrom):
    return [f"{node.module}.{alias.name}" for alias in node.names]
  return []


def _lines(part, modules, width):
  """A box's text: what the part does, and its modules if it has several."""
  columns = int(width / 6.6)
  lines = textwrap.wrap(_PARTS[part][2], columns)
  if part not in ("data_prep", "experiments") and len(modules) > 1:
    modules = [name for name in modules if name != "__init__"]
    lines += textwrap.wrap(" ".join(modules), columns)
  return lines


def _box(part, left, right, top, bottom, lines):
  middle = (left + right) / 2
  text = [
    f'<text x="{middle:.0f}" y="{top + 20}" text-anchor="middle"'
    f' font-weight="bold" font-size="14" fill="#223">{part}</text>'
  ]
  text += [
    f'<text x="{middle:.0f}" y="{top + 38 + i * _LINE}"'
    f' text-anchor="middle" fill="#334">{html.escape(line)}</text>'
    for i, line in enumerate(lines)
  ]
  return (
    f'<rect x="{left:.0f}" y="{top}" width="{right - left:.0f}"'
    f' height="{bottom - top}" rx="6" fill="{_COLORS.get(part, _COLOR)}"'
    ' stroke="#99a"/>' + "".join(text)
  )


def _arrow(boxes, part, other, taken):
  """Straight down, in the gap between boxes, at an x that is not yet taken."""
  left, right, _, y1, _ = boxes[part]
  other_left, other_right, y2, *_ = boxes[other]
  left, right = max(left, other_left) + 15, min(right, other_right) - 15
  between = [box for box in boxes.values() if y1 < box[2] and box[3] < y2]

  def is_free(x):
    return not any(a - 8 < x < b + 8 for a, b, *_ in between) and not any(
      abs(x - x_taken) < 12 and y1 < bottom and top < y2
      for x_taken, top, bottom in taken
    )

  middle = (left + right) / 2
  free = [x for x in range(int(left), int(right) + 1) if is_free(x)]
  x1 = x2 = min(free, key=lambda x: abs(x - middle), default=middle)
  if not free:
    x1 = sum(boxes[part][:2]) / 2
    x2 = sum(boxes[other][:2]) / 2
  taken.append((x1, y1, y2))
  return (
    f'<path d="M{x1:.0f} {y1} {x2:.0f} {y2 - 1}" fill="none" stroke="#667"'
    ' stroke-width="1.5" marker-end="url(#head)"/>'
  )


if __name__ == "__main__":
  _PICTURE.write_text(draw())
