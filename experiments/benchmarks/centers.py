"""Which centers should a mixture have? Table and picture of an experiment.

  python -m experiments.benchmarks.centers --output=centers

Every initialisation x number of centers x frozen or learned kappa and mu, for
train sets of 10^3 to 10^6 patches of the `earth` data set; beside them the same
mixture by the base config's loss, a classification over the same centers and a
regression of the encoded coordinates. All of them are heads on the same small
network, over what can be read off a patch at once: mean, deviation and gradient
of each band and the means of its quarters. So a training takes seconds to
minutes, and all find the same features to work with.

Each training is evaluated on test at the step that is best on validation; one
line of results.jsonl each. A run that was stopped goes on where it was.
"""

import argparse
import collections
import functools
import itertools
import json
import pathlib
import pickle
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from experiments.benchmarks import centers_patches
from geojax import centers, encodings, losses, mixture, sphere
from geojax.views import plots

NUM_TRAIN = (1_000, 10_000, 100_000, 1_000_000)
NUM_CENTERS = tuple(2**n for n in range(6, 16))
# What is learned beside the head.
LEARNED = ("none", "kappa", "mu", "kappa+mu")
BATCH = 128
HIDDEN = 64
LEARNING_RATE = 3e-3
SMOOTHING_KM = 300.0
# Relative to that of the network.
RATE_OF = {"log_kappa": 3.0, "mu": 0.3}


def init_network(seed, num_features, num_outputs):
  """Parameters of two hidden layers and a head."""
  rng = np.random.default_rng(seed)
  sizes = (num_features, HIDDEN, HIDDEN, num_outputs)
  gains = (2, 2, 0.1)
  return [
    {
      "kernel": np.float32(rng.normal(0, (gain / m) ** 0.5, (m, n))),
      "bias": np.zeros(n, np.float32),
    }
    for m, n, gain in zip(sizes[:-1], sizes[1:], gains, strict=True)
  ]


def apply_hidden(layers, features):
  """Features for the head, `[batch, HIDDEN]`."""
  for layer in layers[:-1]:
    features = jax.nn.relu(features @ layer["kernel"] + layer["bias"][None, :])
  return features


def apply_network(layers, features):
  """Outputs of the head, `[batch, outputs]`."""
  head = layers[-1]
  hidden = apply_hidden(layers, features)
  return hidden @ head["kernel"] + head["bias"][None, :]


def loss_of(params, fixed, features, x, *, head):
  """The mean loss of a batch; of a mixture, the nll relative to uniform."""
  layers = params["network"]
  components = {**fixed, **params["mixture"]}
  if head in ("mixture", "smoothed"):
    log_prob_fn = mixture.fused_log_prob
    if head == "smoothed":
      log_prob_fn = functools.partial(
        mixture.fused_smoothed_log_prob,
        blur_rad=SMOOTHING_KM / sphere.EARTH_RADIUS_KM,
      )
    hidden = apply_hidden(layers, features)
    log_prob = log_prob_fn(x, hidden, **layers[-1], **components)
    return losses.relative_nll(log_prob).mean()
  outputs = apply_network(layers, features)
  if head == "regression":
    code = encodings.encode_coordinates(*sphere.unit_to_latlon(x))
    return losses.squared_error(outputs, code).mean()
  nearest = jnp.argmax(x @ components["mu"].T, axis=1)
  return optax.softmax_cross_entropy_with_integer_labels(
    outputs, nearest
  ).mean()


def make_step(num_steps, head):
  """The optimizer and the jitted train step."""
  rate = optax.warmup_cosine_decay_schedule(0, 1, num_steps // 20, num_steps)

  def adam(factor, decay):
    return optax.adamw(
      lambda step: LEARNING_RATE * factor * rate(step), weight_decay=decay
    )

  kinds = {"network": adam(1, 0.05)}
  kinds |= {name: adam(factor, 0) for name, factor in RATE_OF.items()}

  def kind(params):
    network = jax.tree.map(lambda _: "network", params["network"])
    return {"network": network, "mixture": {k: k for k in params["mixture"]}}

  tx = optax.multi_transform(kinds, kind)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, opt_state, fixed, features, x):
    grads = jax.grad(loss_of)(params, fixed, features, x, head=head)
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    if "mu" in params["mixture"]:
      mu = mixture.normalize_centers(params["mixture"]["mu"])
      params["mixture"] = {**params["mixture"], "mu": mu}
    return params, opt_state

  return tx, step


@functools.partial(jax.jit, static_argnames="head")
def _log_prob(params, fixed, features, x, *, head):
  """Log densities, `[batch]`; of a regression, minus its error in km."""
  outputs = apply_network(params["network"], features)
  if head == "regression":
    return -sphere.great_circle_km(_decode_regression(outputs), x)
  return mixture.log_prob(x, outputs, **{**fixed, **params["mixture"]})


@functools.partial(jax.jit, static_argnames="head")
def _place(params, fixed, features, *, head):
  outputs = apply_network(params["network"], features)
  if head == "regression":
    return _decode_regression(outputs)
  mu = {**fixed, **params["mixture"]}["mu"]
  # Few steps, as their time grows with the number of centers.
  return mixture.decode_least_expected_distance(
    outputs, mu, num_starts=1, num_steps=8
  )


def _decode_regression(outputs):
  return encodings.coordinates_to_unit(jnp.clip(outputs, 0, 1))


def mean_nll(params, fixed, patches, head):
  """Mean nll relative to the uniform density; of a regression, mean km."""
  batches = [
    _log_prob(params, fixed, features, x, head=head)
    for features, x in _batches(patches)
  ]
  log_prob = jnp.concatenate(batches)
  if head == "regression":
    return float(-log_prob.mean())
  return float(losses.relative_nll(log_prob).mean())


def median_km(params, fixed, patches, head):
  """Median distance of the decoded places."""
  km = [
    sphere.great_circle_km(_place(params, fixed, features, head=head), x)
    for features, x in _batches(patches)
  ]
  return float(np.median(np.concatenate(km)))


def _batches(patches, size=256):
  for start in range(0, len(patches["x"]), size):
    rows = slice(start, start + size)
    yield patches["features"][rows], patches["x"][rows]


def train(patches, components, *, head, learned, num_train, num_steps, seed):
  """Trains one head; returns its figures on test."""
  mu, log_kappa = components
  names = {"kappa": "log_kappa", "mu": "mu"}
  learned = {names[name] for name in learned.split("+") if name in names}
  values = {"mu": jnp.asarray(mu), "log_kappa": jnp.asarray(log_kappa)}
  fixed = {k: v for k, v in values.items() if k not in learned}
  data = patches["train"]
  params = {
    "network": init_network(
      seed, data["features"].shape[1], 3 if head == "regression" else len(mu)
    ),
    "mixture": {k: v for k, v in values.items() if k in learned},
  }
  params = jax.tree.map(jnp.array, params)
  tx, step = make_step(num_steps, head)
  opt_state = tx.init(params)
  rng = np.random.default_rng(seed)
  best, best_params = np.inf, params
  times = []
  for index in range(num_steps):
    rows = rng.integers(num_train, size=BATCH)
    start = time.perf_counter()
    params, opt_state = step(
      params, opt_state, fixed, data["features"][rows], data["x"][rows]
    )
    jax.block_until_ready(params)
    times.append(time.perf_counter() - start)
    if (index + 1) % max(num_steps // 5, 1) == 0:
      score = mean_nll(params, fixed, patches["validation"], head)
      if score < best:
        best, best_params = score, jax.tree.map(jnp.copy, params)
  test = best_params, fixed, patches["test"], head
  return {
    "median_km": median_km(*test),
    "nll_nats": mean_nll(*test) if head != "regression" else float("nan"),
    "ms_per_step": 1e3 * float(np.median(times[1:])),
  }


def trainings(num_train, num_centers, learned):
  """All trainings of the experiment: fewest patches first."""
  for n in num_train:
    yield {"num_train": n, "head": "regression"}
    for k, method in itertools.product(num_centers, centers.METHODS):
      if k > n / 2:
        continue
      of_centers = {"num_train": n, "num_centers": k, "method": method}
      for head in ("classification", "smoothed"):
        yield {**of_centers, "head": head}
      for names in learned:
        yield {**of_centers, "head": "mixture", "learned": names}


def run(args, path):
  """Runs the trainings that `path` does not hold yet."""
  done = read_results(path)
  todo = list(trainings(args.num_train, args.num_centers, args.learned))
  known = [{k: v for k, v in row.items() if k in todo[-1]} for row in done]
  todo = [setting for setting in todo if setting not in known]
  if not todo:
    return
  cache = path.with_name("patches.pkl")
  if not cache.exists():
    with open(cache.with_suffix(".tmp"), "wb") as file:
      pickle.dump(
        centers_patches.load_patches(max(NUM_TRAIN)), file, protocol=5
      )
    cache.with_suffix(".tmp").rename(cache)
  patches = pickle.loads(cache.read_bytes())

  @functools.cache
  def make_centers(n, k, method):
    start = time.perf_counter()
    components = centers.initialize(
      method, patches["train"]["x"][:n], k, min_distance_km=0.0
    )
    return components, time.perf_counter() - start

  with open(path, "a") as file:
    for setting in tqdm.tqdm(todo, desc="trainings", disable=None):
      n, k = setting["num_train"], setting.get("num_centers", 1)
      method = setting.get("method", "fibonacci")
      components, seconds = make_centers(n, k, method)
      figures = train(
        patches,
        components,
        head=setting["head"],
        learned=setting.get("learned", "none"),
        num_train=n,
        num_steps=args.num_steps,
        seed=0,
      )
      row = {**setting, **figures, "seconds_to_make": seconds}
      file.write(json.dumps(row) + "\n")
      file.flush()


def read_results(path):
  """The lines of a results.jsonl; none if there is no file."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def print_table(rows):
  """Prints a line a training."""
  print(
    f"{'patches':>8} {'centers':>8} {'made by':<13} {'head':<15}"
    f"{'learned':<9} {'median km':>9} {'nll nats':>9} {'ms/step':>8}"
  )
  for row in rows:
    print(
      f"{row['num_train']:>8} {row.get('num_centers', '-'):>8}"
      f" {row.get('method', '-'):<13} {row['head']:<15}"
      f"{row.get('learned', '-'):<9}"
      f" {row['median_km']:>9.0f} {row['nll_nats']:>9.2f}"
      f" {row['ms_per_step']:>8.1f}"
    )


def draw(rows):
  """Draws nll and median distance over the number of centers."""
  shown = {
    "none": "frozen",
    "kappa+mu": "kappa and mu learned",
    "classification": "classification",
  }
  curves, regression_km = collections.defaultdict(dict), {}
  for row in rows:
    size, head = row["num_train"], row["head"]
    if head == "regression":
      regression_km[size] = row["median_km"]
      continue
    variant = row.get("learned", head)
    nll = row["nll_nats"]
    if head == "classification":
      # One stands for all; its nll is not what it was trained for.
      if row["method"] != "train_subset":
        continue
      nll = np.nan
    if variant in shown:
      key = row["method"], shown[variant]
      point = row["num_centers"], nll, row["median_km"]
      curves[size].setdefault(key, []).append(point)
  return plots.centers_comparison(curves, regression_km)


def main():
  """Runs what is missing, then prints the table and draws the picture."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--output", type=pathlib.Path, required=True)
  parser.add_argument("--num_train", type=int, nargs="+", default=NUM_TRAIN)
  parser.add_argument("--num_centers", type=int, nargs="+", default=NUM_CENTERS)
  parser.add_argument("--learned", nargs="+", choices=LEARNED, default=LEARNED)
  parser.add_argument("--num_steps", type=int, default=1000)
  args = parser.parse_args()
  args.output.mkdir(parents=True, exist_ok=True)
  path = args.output / "results.jsonl"
  run(args, path)
  rows = read_results(path)
  print_table(rows)
  draw(rows).savefig(args.output / "centers.png", dpi=110)


if __name__ == "__main__":
  main()
