"""Objects in Google Cloud Storage, by `etils.epath` and `gcsfs`.

`files.path` hands over what starts with `gs://`. All access in a process, that
of Orbax and TFDS to metadata too, goes through one file system, which tries
again and names what failed; arrays of checkpoints and records are read by
TensorStore and ArrayRecord, which try again by themselves.
"""

import base64
import contextlib
import datetime
import functools
import json
import logging
import os
import pathlib

from geojax.files.errors import RequestError, StorageError

_INSTALL = 'python -m pip install ".[gcs]"'
# A connection that says nothing for so long is given up, and tried again.
_SILENT_S = 60
# How often what arrives with another checksum is asked for.
_ATTEMPTS, _PIECE_BYTES = 3, 1 << 20


def path(url: str):
  """Returns the `epath.Path` of a URL.

  Args:
    url: `gs://BUCKET/OBJECT`.

  Raises:
    StorageError: A package is missing, or the bucket cannot be listed.
  """
  bucket = url.removeprefix("gs://").partition("/")[0]
  if not bucket:
    raise StorageError(f"{url!r} names no bucket; write gs://BUCKET/FOLDER")
  _check(bucket)
  # Only there for buckets.
  from etils import epath

  return epath.Path(url)


@functools.cache
def _check(bucket):
  """Asks for one object: a wrong name or account fails here, and by name."""
  try:
    file_system().call("GET", "b/{}/o", bucket, maxResults=1)
  except FileNotFoundError as error:
    raise StorageError(
      f"gs://{bucket}: there is no such bucket, or the account may not see it"
    ) from error


@functools.cache
def file_system():
  """Returns the file system of all buckets.

  Raises:
    StorageError: A package is missing; says how to install it.
  """
  # epath takes TensorFlow's file system where that is installed.
  os.environ.setdefault("EPATH_USE_TF", "false")
  try:
    import aiohttp
    import fsspec
    import gcsfs.core
    from etils import epath  # noqa: F401 - is it installed?
  except ImportError as error:
    raise StorageError(
      f"gs:// needs the package {error.name}: install what reads buckets by"
      f" {_INSTALL}"
    ) from error

  class FileSystem(gcsfs.core.GCSFileSystem):
    """Names bucket, object and way out in errors."""

    async def _call(self, method, path, *args, **kwargs):
      with _explained(_name(path, args, kwargs)):
        return await super()._call(method, path, *args, **kwargs)

    async def _get_file(self, rpath, lpath, *args, **kwargs):
      with _explained(rpath):
        # Its own comparison is by MD5, which composed objects lack.
        kwargs["consistency"] = "none"
        return await super()._get_file(rpath, lpath, *args, **kwargs)

    async def _put_file(self, lpath, rpath, *args, **kwargs):
      with _explained(rpath):
        return await super()._put_file(lpath, rpath, *args, **kwargs)

  for protocol in FileSystem.protocol:
    fsspec.register_implementation(protocol, FileSystem, clobber=True)
    fsspec.config.conf[protocol] = {
      # Listings that are kept hide what other hosts write.
      "use_listings_cache": False,
      "requests_timeout": aiohttp.ClientTimeout(
        total=None, sock_connect=_SILENT_S, sock_read=_SILENT_S
      ),
      # Compares checksums of what is written; see `download` for the rest.
      "consistency": "md5",
      **fsspec.config.conf.get(protocol, {}),
    }
  # It logs a traceback for each error that is raised anyway.
  logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
  return fsspec.filesystem("gs", finalize_on_close=True)


def _name(path, args, kwargs):
  """Bucket and, as far as a call has it, object; see `_call` of gcsfs."""
  if args:
    return "/".join((*args, *filter(None, [kwargs.get("prefix")])))
  # An upload's is in its body.
  return path.rpartition("/b/")[2].removeprefix("b/").removesuffix("/o")


@contextlib.contextmanager
def _explained(name):
  """Turns errors of a request into a `StorageError` that names the object."""
  name = name if name.startswith("gs://") else f"gs://{name}"
  try:
    yield
  except RequestError as error:
    # Of a call within, which may know no more than the bucket.
    raise RequestError(max(name, error.name, key=len), error.reason) from error
  except (FileNotFoundError, FileExistsError):
    raise
  except Exception as error:
    if not (reason := _reason(error)):
      raise
    raise RequestError(name, reason) from error


def _reason(error):
  """Why a request failed and what helps, or "" of errors of other kinds."""
  import aiohttp
  import google.auth.exceptions
  import requests
  from gcsfs import retry

  code = getattr(error, "code", None) or getattr(error, "status", None)
  if isinstance(error, google.auth.exceptions.GoogleAuthError):
    return (
      f"no valid credentials ({_first_line(error)}). Log in by `gcloud auth"
      " application-default login`, or give the machine a service account"
    )
  if isinstance(error, retry.HttpError) and code == 401:
    return (
      f"the credentials are not accepted ({_first_line(error)}): expired, or of"
      " another project. Log in anew by `gcloud auth application-default login`"
    )
  if str(error).startswith("Forbidden"):
    return (
      f"no permission ({_first_line(error, 1)}). The account needs the role"
      " Storage Object User on the bucket"
    )
  network = (
    aiohttp.ClientError,
    requests.exceptions.RequestException,
    retry.ChecksumError,
    TimeoutError,
  )
  if isinstance(error, network) or (
    isinstance(error, retry.HttpError) and retry.is_retriable(error)
  ):
    return (
      f"no answer after several attempts ({type(error).__name__}"
      f" {_first_line(error)})".rstrip()
      + ". Check the network, then give the same command again"
    )
  if isinstance(error, retry.HttpError | ValueError):
    return f"the request was refused ({_first_line(error)})"
  return ""


def _first_line(error, index=0):
  lines = str(error).strip().split("\n")
  return lines[min(index, len(lines) - 1)][:200]


def upload(source: pathlib.Path, target, *, replace: bool = True) -> None:
  """Copies a local file to an object, whole or not at all.

  Args:
    source: The file.
    target: Path of the object.
    replace: Whether to replace an object that is there.

  Raises:
    FileExistsError: There is an object, which is not to be replaced; or this
      upload made it, and was sent again because the answer was lost.
    StorageError: It cannot be written.
  """
  mode = "overwrite" if replace else "create"
  file_system().put_file(os.fspath(source), os.fspath(target), mode=mode)


def download(source, target: pathlib.Path) -> None:
  """Copies an object to a local file, and compares their checksums.

  Args:
    source: Path of the object.
    target: The file, which is replaced.

  Raises:
    FileNotFoundError: There is no such object.
    StorageError: It cannot be read, or arrives with other bytes.
  """
  import google_crc32c

  fs = file_system()
  expected = fs.info(os.fspath(source))["crc32c"]
  for _ in range(_ATTEMPTS):
    fs.get_file(os.fspath(source), os.fspath(target))
    found = google_crc32c.Checksum()
    with target.open("rb") as file:
      # It reads to the end, piece by piece.
      for _ in found.consume(file, _PIECE_BYTES):
        pass
    if base64.b64encode(found.digest()).decode() == expected:
      return
  raise StorageError(
    f"{source}: the checksum of what arrives is not that of the object, after"
    f" {_ATTEMPTS} attempts; give the same command again"
  )


def move(source, target) -> None:
  """Moves all objects of a folder: copies them all, then removes the old ones.

  Args:
    source: Path of the folder.
    target: Its new path.

  Raises:
    StorageError: The bucket cannot be read or written.
  """
  file_system().mv(os.fspath(source), os.fspath(target), recursive=True)


def sizes_and_times(folder) -> dict[str, tuple[int, int]]:
  """Returns what `files.sizes_and_times` does, of a folder in a bucket."""
  return {
    name: (file["size"], _nanoseconds(file["mtime"]))
    for name, file in _list(folder)
  }


def sizes_and_checksums(folder) -> dict[str, tuple[int, str | None]]:
  """Returns what `files.sizes_and_checksums` does, of a folder in a bucket."""
  try:
    listed = list(_list(folder))
  except FileNotFoundError:
    return {}
  return {name: (file["size"], _md5(file)) for name, file in listed}


def size_and_checksum(path) -> tuple[int, str | None] | None:
  """Returns what `files.size_and_checksum` does, of an object."""
  try:
    file = file_system().info(os.fspath(path))
  except FileNotFoundError:
    return None
  return file["size"], _md5(file)


def walk(folder):
  """Yields what `files.walk` does, of a folder in a bucket."""
  for root, folders, names in file_system().walk(os.fspath(folder)):
    yield path(f"gs://{root.removeprefix('gs://')}"), folders, names


def _list(folder):
  """Yields name and description of each object right in a folder."""
  for file in file_system().ls(os.fspath(folder), detail=True):
    if file["type"] == "file":
      yield file["name"].rpartition("/")[2], file


def _md5(file):
  """An object's checksum as `hashlib` writes it; composed objects have none."""
  if "md5Hash" not in file:
    return None
  return base64.b64decode(file["md5Hash"]).hex()


def _nanoseconds(time: datetime.datetime):
  return int(time.timestamp() * 1e6) * 1000


def replace(path, content: bytes, generation: int) -> int:
  """Writes an object on condition that it is still of a generation.

  Args:
    path: The object.
    content: What to write.
    generation: The generation that it must have; 0 if it must not exist.

  Returns:
    The new generation.

  Raises:
    FileExistsError: The object has another generation.
    StorageError: It cannot be written.
  """
  fs = file_system()
  bucket, key, _ = fs.split_path(os.fspath(path))
  parts = (
    ("application/json; charset=UTF-8", json.dumps({"name": key}).encode()),
    ("application/octet-stream", content),
  )
  with _explained(os.fspath(path)):
    written = fs.call(
      "POST",
      f"{fs._location}/upload/storage/v1/b/{bucket}/o",
      uploadType="multipart",
      ifGenerationMatch=str(generation),
      headers={"Content-Type": "multipart/related; boundary=part"},
      data=b"".join(
        b"--part\r\nContent-Type: %b\r\n\r\n%b\r\n" % (kind.encode(), body)
        for kind, body in parts
      )
      + b"--part--",
      json_out=True,
    )
  return int(written["generation"])


def read_with_generation(path) -> tuple[bytes, int]:
  """Reads an object and its generation, consistently.

  Args:
    path: The object.

  Raises:
    FileNotFoundError: There is no such object.
    StorageError: It cannot be read.
  """
  fs = file_system()
  bucket, key, _ = fs.split_path(os.fspath(path))
  headers, content = fs.call("GET", "b/{}/o/{}", bucket, key, alt="media")
  return content, int(headers["X-Goog-Generation"])
