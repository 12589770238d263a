"""Who may import whom."""

import ast
import configparser
import pathlib
import subprocess
import sys

import setuptools

ROOT = pathlib.Path(__file__).parents[2]
MATHEMATICS = {
  *("arrays", "blocks", "cell_regions", "centers", "circular", "climate"),
  *("encodings", "losses", "mixture", "sphere", "vmf"),
}
# What a part of geojax reaches, through whatever lies between.
MAY_REACH = {
  "files": set(),
  "models": set(),
  "views": {"sphere", "climate"},
  **dict.fromkeys(MATHEMATICS, MATHEMATICS),
  "evaluation": MATHEMATICS,
  "tasks": MATHEMATICS | {"evaluation", "models"},
}
MAY_REACH["training"] = MAY_REACH["tasks"] | {"tasks", "files"}
MAY_REACH["transfer"] = MAY_REACH["training"] | {"training"}
MAY_REACH["prediction"] = MAY_REACH["training"]
MAY_REACH["predictor"] = MAY_REACH["training"] | {"training", "prediction"}
MAY_REACH["predict"] = MAY_REACH["predictor"] | {"predictor"}
# Only what a call of `from_pretrained` imports.
MAY_REACH["__init__"] = MAY_REACH["predict"] | {"predict"}
FRAMEWORKS = {
  *("absl", "flax", "grain", "ml_collections", "optax", "orbax"),
  *("tensorflow_datasets",),
}
LIGHT = {"blocks", "sphere", "encodings", "climate", "files"}


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


def tops(path):
  return {name.split(".")[0] for name in imports(path)}


def geojax_parts(path):
  """Parts of geojax, modules or packages, that a file imports."""
  names = (name.split(".") for name in imports(path))
  return {name[1] for name in names if name[0] == "geojax" and name[1:]}


def reached_from(part, graph):
  reached, todo = set(), [part]
  while todo:
    new = graph.get(todo.pop(), set()) - reached
    reached |= new
    todo += new
  return reached


def test_imports_point_one_way():
  graph = {}
  for module, path in modules("geojax"):
    part = module.split(".")[1]
    graph.setdefault(part, set()).update(geojax_parts(path) - {part})
  for part in graph:
    reached = reached_from(part, graph)
    assert part not in reached, f"{part} imports itself in a circle"
    assert reached <= MAY_REACH[part], part


def test_no_framework_below_training():
  for module, path in modules("geojax"):
    part = module.split(".")[1]
    if part in MATHEMATICS | {"evaluation", "tasks"}:
      assert not tops(path) & FRAMEWORKS, module
    if part == "evaluation":
      assert "jax" not in tops(path), module
    if part == "tasks":
      of_models = {n.split(".")[2] for n in imports(path) if ".models." in n}
      assert of_models <= {"heads", "encoders"}, module


def test_one_door_for_orbax_and_linen():
  for module, path in modules("geojax", "data_prep", "experiments"):
    for name in imports(path):
      if name.startswith("orbax"):
        assert module == "geojax.training.checkpoint", module
      if name.startswith("flax.linen"):
        assert module.startswith("geojax.models."), module


def test_data_prep_and_geojax_keep_apart():
  for module, path in modules("geojax"):
    assert not tops(path) & {"data_prep", "experiments"}, module
  for module, path in modules("data_prep"):
    assert geojax_parts(path) <= LIGHT, module


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


def test_data_prep_and_what_it_shares_start_without_jax():
  names = [name for name, _ in modules("data_prep")]
  names = [name.removesuffix(".__init__") for name in names]
  light = [f"geojax.{name}" for name in sorted(LIGHT)]
  loaded = loaded_by(*names, *light, "geojax.evaluation.groups")
  assert "numpy" in loaded
  assert "jax" not in loaded


def test_predictions_start_without_what_training_alone_needs():
  loaded = {name.split(".")[0] for name in loaded_by("geojax.predict")}
  assert "flax" in loaded
  extras = "array_record cartopy grain matplotlib plotly pyarrow tensorboardX"
  assert not loaded & {*extras.split(), "tensorflow_datasets", "wandb"}


def test_only_geojax_is_installed():
  config = configparser.ConfigParser()
  config.read(ROOT / "setup.cfg")
  included = config["options.packages.find"]["include"].split()
  found = setuptools.find_packages(ROOT, include=included)
  assert {name.split(".")[0] for name in found} == {"geojax"}
  # A folder without __init__.py is not installed.
  folders = {module.rpartition(".")[0] for module, _ in modules("geojax")}
  assert folders == set(found)
