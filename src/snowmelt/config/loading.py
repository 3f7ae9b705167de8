"""From a path to a Config: read, fill in variables, find what is wrong, keep what runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from snowmelt.config.checks import cross_findings, require_names, warnings_of
from snowmelt.config.config import Config
from snowmelt.config.document import Document, Finding
from snowmelt.config.environment import Environment, Layer, Substitution, substitute
from snowmelt.config.files import dotenv_layers, read_document
from snowmelt.config.findings import validation_findings
from snowmelt.config.models import ConfigFile
from snowmelt.config.outline import Outline
from snowmelt.errors import ConfigError


def load_config(
    path: str | Path,
    *,
    sources: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The config of the sources that run: those enabled and, if any are given, named in `sources`.

    Variables come from `environ` (that of the process if None), then from `.env` beside the file,
    then from `.env` in the working directory.

    Raises ConfigError with every problem of the file, UsageError when there is no file to read,
    UnknownName for a source that is not in the file, or disabled.
    """
    path, names = Path(path), tuple(sources or ())
    document = read_document(path)
    process = Layer("the environment", os.environ if environ is None else environ)
    environment = Environment((process, *dotenv_layers(path)))
    filled = substitute(document.root, environment)
    outline = Outline.of(filled.root, names)
    findings = _findings(document, filled, outline)
    if findings:
        raise ConfigError(document.path, document.problems(findings))
    require_names(document, outline, names)
    warnings = warnings_of(document, outline)
    return Config.model_validate({**outline.running_root(), "warnings": warnings})


def _findings(document: Document, filled: Substitution, outline: Outline) -> tuple[Finding, ...]:
    """Everything wrong, also in sources that don't run, except for their missing variables."""
    earlier = (
        *document.findings,
        *filled.findings,
        *(finding for finding in filled.missing if outline.needs(finding.place)),
        *_validation(document, filled),
    )
    return (*earlier, *cross_findings(outline, earlier))


def _validation(document: Document, filled: Substitution) -> tuple[Finding, ...]:
    try:
        ConfigFile.model_validate(filled.root)
    except ValidationError as error:
        return validation_findings(document, filled.written, error)
    return ()
