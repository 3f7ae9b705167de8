"""The only place where the config touches the disk: the file itself and the `.env` files."""

from __future__ import annotations

from pathlib import Path

from dotenv import dotenv_values

from snowmelt.config.document import Document, syntax_error
from snowmelt.config.environment import Layer
from snowmelt.config.json_text import read_json
from snowmelt.config.yaml_text import read_yaml
from snowmelt.errors import UsageError

CONFIGS = ("snowmelt.yaml", "snowmelt.yml", "snowmelt.json", "config.yaml", "config.json")
"""What a config file is called where none is named."""


def found_config(folder: Path) -> Path | None:
    """The first of them that is in the folder."""
    return next((folder / name for name in CONFIGS if (folder / name).exists()), None)


def read_document(path: Path) -> Document:
    """`.json` is read as JSON, every other name as YAML.

    Raises UsageError when there is no file to read, ConfigError when it is not what its name says.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"there is no config file {path}", remedy="name another one with --config"
        ) from None
    except IsADirectoryError:
        raise UsageError(
            f"{path} is a directory", remedy="name the config file in it with --config"
        ) from None
    except OSError as error:
        raise UsageError(
            f"the config file {path} can't be read: {error.strerror}",
            remedy="check that you may read it",
        ) from None
    return parse_document(str(path), content)


def parse_document(name: str, content: bytes) -> Document:
    """A name that ends in `.json` is read as JSON, every other one as YAML. Raises ConfigError."""
    text = _decoded(content)
    if text is None:
        raise syntax_error(name, None, "is not UTF-8 text", "save it with the encoding UTF-8")
    if name.lower().endswith(".json"):
        return read_json(name, text)
    return read_yaml(name, text)


def _decoded(content: bytes) -> str | None:
    """A decode error keeps the bytes, with the secrets in them, so it ends here."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def dotenv_layers(config: Path) -> tuple[Layer, ...]:
    """The `.env` beside the config file, then the one of the working directory.

    Raises UsageError for one that can't be read.
    """
    beside, here = config.parent / ".env", Path(".env")
    paths = (beside,) if beside.resolve() == here.resolve() else (beside, here)
    return tuple(_dotenv(path) for path in paths if path.is_file())


def _dotenv(path: Path) -> Layer:
    try:
        return Layer(str(path), dotenv_values(path, encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        reason = f"{path} can't be read as UTF-8 text"
    raise UsageError(
        reason, remedy="save it with the encoding UTF-8 and check that you may read it"
    )
