"""The commands and code of README and docs, as their pages hold them."""

import dataclasses
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (
  ROOT / "README.md",
  ROOT / "CONTRIBUTING.md",
  *sorted((ROOT / "docs").rglob("*.md")),
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_BEGINNING = re.compile(r"(?:\S*bin/)?(python3?|make|pip|pytest|tensorboard)\s")


@dataclasses.dataclass(frozen=True)
class Command:
  page: str
  words: tuple
  is_marked: bool

  @property
  def file(self):
    """The command's own file, None if it is none of this repository."""
    for word in self.words:
      if re.fullmatch(r"(experiments|data_prep)(\.\w+)+", word):
        word = word.replace(".", "/") + ".py" if "/" not in word else word
      if re.fullmatch(r"(experiments|data_prep)/[\w/]+\.py", word):
        return ROOT / word
    return None


def page_name(path):
  return str(path.relative_to(ROOT))


def blocks(path):
  """Language, text and whether it is marked, of each fenced block."""
  text = path.read_text()
  for match in FENCE.finditer(text):
    above = text[: match.start()].rstrip().split("\n\n")[-1]
    is_marked = above.startswith("*Needs ") and above.endswith(".*")
    yield match[1], match[2], is_marked


def spans(path):
  """Text in backticks outside of blocks, and what follows it."""
  prose = FENCE.sub("", path.read_text())
  for match in _SPAN.finditer(prose):
    yield " ".join(match[1].split()), prose[match.end() :].lstrip()


def split_commands(text):
  """Words of each command of a shell text, also of those within quotes."""
  pending = ""
  for line in text.replace("\\\n", " ").splitlines():
    pending += line + "\n"
    try:
      words = shlex.split(pending, comments=True)
    except ValueError:  # Within quotes: the next line belongs to it too.
      continue
    pending = ""
    nested = [word for word in words if "\n" in word]
    for word in nested:
      yield from split_commands(word)
    if words and not nested:
      yield tuple(words)
  assert not pending.strip(), f"quotes without an end: {pending}"


def commands(path):
  """All commands of a page, of its blocks and of its sentences."""
  found = [
    Command(page_name(path), words, is_marked)
    for language, text, is_marked in blocks(path)
    if language == "sh"
    for words in split_commands(text)
  ]
  for text, after in spans(path):
    if _BEGINNING.match(text):
      words = tuple(shlex.split(text))
      found.append(Command(page_name(path), words, after.startswith("(needs ")))
  return found


COMMANDS = [command for path in PAGES for command in commands(path)]


def beginning(words):
  """A command without variables, interpreter and `-m`."""
  words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
  if words[0].rpartition("/")[2] in ("python", "python3"):
    words = [word for word in words[1:] if word != "-m"]
  return " ".join(words)
