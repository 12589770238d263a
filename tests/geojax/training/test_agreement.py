"""What all processes of a run must have in common, without any processes."""

import json

import jax
import pytest

from geojax.training import agreement, loop
from geojax.training import dataset as dataset_lib
from geojax.training.errors import AgreementError, ConfigError


def _facts(small_config):
  dataset = dataset_lib.open_dataset(
    small_config.data.dir, small_config.data.name
  )
  return agreement.describe(small_config, dataset)


def test_hosts_that_agree_have_no_differences():
  assert agreement.differences({"a": {"x": 1}, "b": {"x": 1}}) == ""


def test_a_host_that_differs_is_named_with_both_values():
  hosts = {
    "a (process 0)": {"config.seed": 1, "rows": 8},
    "b (process 1)": {"config.seed": 0, "rows": 8},
    "c (process 2)": {"config.seed": 0, "rows": 8},
  }
  head, line = agreement.differences(hosts).splitlines()
  # Two of three agree: the first process is the one that differs.
  assert line == "  a (process 0): config.seed is 1, but 0 on b (process 1)"
  assert "the processes of this run differ" in head


def test_where_no_value_has_a_majority_the_first_process_is_right():
  hosts = {"a": {"x": 1}, "b": {"x": 2}}
  assert "b: x is 2, but 1 on a" in agreement.differences(hosts)


def test_a_value_that_only_some_hosts_have_is_a_difference():
  hosts = {"a": {"x": 1}, "b": {"x": 1, "y": "new"}}
  assert 'b: y is "new", but null on a' in agreement.differences(hosts)


def test_a_host_that_cannot_start_is_named_with_its_error():
  hosts = {"a": {"x": 1, "y": 2}, "b": {"error": "DatasetError: no data"}}
  assert agreement.differences(hosts).splitlines() == [
    "some processes of this run cannot start:",
    "  b: DatasetError: no data",
  ]
  # The same on all: each process raises its own error.
  assert agreement.differences({"a": hosts["b"], "b": hosts["b"]}) == ""


def test_long_differences_are_cut():
  first = {f"key{i}": "v" * 1000 for i in range(30)}
  found = agreement.differences({"a": first, "b": dict.fromkeys(first, "w")})
  assert "and 20 more" in found
  assert max(map(len, found.splitlines())) < 250


def test_processes_with_unequal_devices_are_refused():
  agreement._check_devices([0, 0, 1, 1])
  with pytest.raises(AgreementError, match="process 0: 2, process 1: 1"):
    agreement._check_devices([0, 0, 1])


def test_facts_are_equal_for_equal_runs_and_plain_json(small_config):
  facts = _facts(small_config)
  assert facts == _facts(small_config)
  assert json.loads(json.dumps(facts)) == facts
  assert facts["version.jax"] == jax.__version__
  assert facts["config.data.batch_size"] == facts["rows"] == 32
  assert len(facts["dataset.splits_sha256"]) == 64
  assert facts["dataset.num_records.train"] > 0


def test_what_changes_a_run_changes_the_facts(small_config, tmp_path):
  before = _facts(small_config)

  def changed():
    after = _facts(small_config)
    return {key for key in before if before[key] != after[key]}

  small_config.optimizer.learning_rate *= 2
  assert changed() == {"config.optimizer.learning_rate"}
  # Code of one's own is compared too, wherever it lies.
  extension = tmp_path / "mine.py"
  small_config.extensions = (str(extension),)
  hashes = set()
  for code in ("a = 1", "a = 2"):
    extension.write_text(code)
    hashes.add(_facts(small_config)[f"source_sha256.{extension}"])
  assert len(hashes) == 2


def test_the_hash_of_source_code_covers_names_and_content(tmp_path):
  hashes = set()
  for name, code in (("a.py", "1"), ("a.py", "2"), ("b.py", "2")):
    path = tmp_path / name / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)
    hashes.add(agreement._hash_source(path.parent))
  assert len(hashes) == 3


@pytest.fixture
def two_processes(monkeypatch):
  """This process as one of two; the other differs in the facts set here."""
  other = {}

  def gather(facts):
    return {
      "here (process 0)": facts,
      "there (process 1)": {**facts, **other} if other else facts,
    }

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(agreement, "_gather", gather)
  return other


def test_a_difference_ends_a_run_before_it_claims_its_workdir(
  small_config, tmp_path, two_processes
):
  two_processes["dataset.splits_sha256"] = "another"
  with pytest.raises(AgreementError, match=r"there .*: dataset\.splits_sha256"):
    loop.train(small_config, tmp_path / "run", progress=False)
  assert not (tmp_path / "run").exists()


def test_an_error_of_all_processes_is_raised_as_it_is(
  small_config, tmp_path, two_processes
):
  small_config.num_steps = 0
  with pytest.raises(ConfigError, match="num_steps"):
    loop.train(small_config, tmp_path / "run", progress=False)
