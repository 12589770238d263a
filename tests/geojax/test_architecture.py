"""Who may import whom."""

import ast
import configparser
import pathlib
import subprocess
import sys

import setuptools

ROOT = pathlib.Path(__file__).parents[2]
# A module reaches, through whatever lies between, lower levels alone.
LEVELS = {
  "sphere": 0,
  "climate": 1,
  "encodings": 2,
  "vmf": 1,
  "mixture": 2,
  "centers": 2,
  "losses": 3,
  "metrics": 3,
  "baselines": 4,
  "prediction": 4,
  "training": 5,
  "predict": 6,
}
WINGS = {"models", "training", "views"}
LIGHT = {"sphere", "encodings", "climate", "files"}


def modules(*folders):
  for folder in folders:
    for path in sorted((ROOT / folder).rglob("*.py")):
      yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imports(path):
  """Full names of all that a file imports, wherever in it."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path} has a relative import"
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def geojax_parts(path):
  """Top modules and wings of geojax that a file imports."""
  for name in imports(path):
    first, *rest = name.split(".")
    if first == "geojax" and rest:
      yield rest[0]


def import_graph():
  """Top modules and wings of geojax, and which of them each imports."""
  graph = {}
  for module, path in modules("geojax"):
    top = module.split(".")[1]
    graph.setdefault(top, set()).update(set(geojax_parts(path)) - {top})
  return graph


def reached_from(top, graph):
  reached, todo = set(), [top]
  while todo:
    new = graph.get(todo.pop(), set()) - reached
    reached |= new
    todo += new
  return reached


CORE = sorted(import_graph().keys() - WINGS - {"predict", "__init__"})


def test_imports_point_one_way():
  graph = import_graph()
  for top in graph:
    reached = reached_from(top, graph)
    assert top not in reached, f"{top} imports itself in a circle"
    for other in reached & LEVELS.keys():
      level = LEVELS.get(top, 99)
      assert LEVELS[other] < level, f"{top} reaches {other}"
  for top in CORE:
    assert not reached_from(top, graph) & (WINGS | {"predict"}), top


def test_core_knows_no_framework():
  banned = {
    "flax",
    "ml_collections",
    "orbax",
    "optax",
    "absl",
    "grain",
    "tensorflow_datasets",
  }
  for module, path in modules("geojax"):
    if module.split(".")[1] in CORE:
      tops = {name.split(".")[0] for name in imports(path)}
      assert not tops & banned, module


def test_models_and_views_stand_on_the_ground():
  for module, path in modules("geojax/models"):
    assert set(geojax_parts(path)) <= {"models"}, module
  for module, path in modules("geojax/views"):
    assert set(geojax_parts(path)) <= {"sphere", "climate", "views"}, module


def test_one_door_for_orbax_and_linen():
  for module, path in modules("geojax", "data_prep", "experiments"):
    for name in imports(path):
      if name.startswith("orbax"):
        assert module == "geojax.training.checkpoint", module
      if name.startswith("flax.linen"):
        assert module.startswith("geojax.models."), module


def test_data_prep_and_geojax_keep_apart():
  for module, path in modules("geojax"):
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & {"data_prep", "experiments"}, module
  for module, path in modules("data_prep"):
    assert set(geojax_parts(path)) <= LIGHT, module


def test_no_drawer_for_everything():
  for module, _ in modules("geojax", "data_prep", "experiments"):
    assert not module.endswith(("utils", "helpers", "common")), module


def loaded_by(*names):
  """Names of all modules that are loaded after importing some."""
  code = f"import sys, {', '.join(names)}; print(*sys.modules)"
  out = subprocess.run(
    [sys.executable, "-c", code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert out.returncode == 0, out.stderr
  return out.stdout.split()


def test_geojax_is_light():
  loaded = loaded_by("geojax")
  assert [name for name in loaded if name.startswith("geojax.")] == []
  assert "numpy" not in loaded


def test_both_sides_share_modules_without_jax():
  loaded = loaded_by(*(f"geojax.{name}" for name in sorted(LIGHT)))
  assert "numpy" in loaded
  assert "jax" not in loaded


def test_data_prep_starts_without_jax():
  names = [name for name, _ in modules("data_prep")]
  names = [name.removesuffix(".__init__") for name in names]
  assert "jax" not in loaded_by(*names)


def test_predictions_start_without_what_training_alone_needs():
  loaded = {name.split(".")[0] for name in loaded_by("geojax.predict")}
  assert "flax" in loaded
  extras = "array_record cartopy grain matplotlib plotly pyarrow tensorboardX"
  assert not loaded & {*extras.split(), "tensorflow_datasets", "wandb"}


def test_only_geojax_is_installed():
  found = setuptools.find_packages(ROOT, include=_included_packages())
  assert {name.split(".")[0] for name in found} == {"geojax"}


def _included_packages():
  config = configparser.ConfigParser()
  config.read(ROOT / "setup.cfg")
  return config["options.packages.find"]["include"].split()
