"""From a path to a Config: read, fill in variables, find what is wrong, keep what runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from snowmelt.cloud import Aws
from snowmelt.config.checks import cross_findings, require_names, warnings_of
from snowmelt.config.config import Config
from snowmelt.config.document import Document, Finding
from snowmelt.config.environment import Environment, Layer, Substitution, substitute
from snowmelt.config.files import dotenv_layers, parse_document, read_document
from snowmelt.config.findings import validation_findings
from snowmelt.config.models import ConfigFile
from snowmelt.config.outline import Outline
from snowmelt.config.secrets import Secrets, Vault
from snowmelt.errors import ConfigError


def load_config(
    path: str | Path,
    *,
    sources: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    vault: Vault | None = None,
) -> Config:
    """The config of the sources that run: those enabled and, if any are given, named in `sources`.

    Variables come from `environ` (that of the process if None), then from `.env` beside the file,
    then from `.env` in the working directory; secrets from `vault` (AWS if None), and only those that what
    runs needs.

    Raises ConfigError with every problem of the file, UsageError when there is no file to read,
    UnknownName for a source that is not in the file, or disabled, RetriableError when the vault gives no
    answer now.
    """
    path = Path(path)
    document = read_document(path)
    layers = (_process(environ), *dotenv_layers(path))
    return _loaded(document, Environment(layers), sources, vault)


def parse_config(
    name: str,
    content: bytes,
    *,
    sources: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    vault: Vault | None = None,
) -> Config:
    """The same of a file that was read already; `name` says whether it is JSON, and is told in messages."""
    document = parse_document(name, content)
    return _loaded(document, Environment((_process(environ),)), sources, vault)


def _process(environ: Mapping[str, str] | None) -> Layer:
    return Layer("the environment", os.environ if environ is None else environ)


def _loaded(
    document: Document,
    environment: Environment,
    sources: Sequence[str] | None,
    vault: Vault | None,
) -> Config:
    names = tuple(sources or ())
    filled, outline = _filled(document, environment, names, Secrets(vault or Aws()))
    findings = _findings(document, filled, outline)
    if findings:
        raise ConfigError(document.path, document.problems(findings))
    require_names(document, outline, names)
    warnings = warnings_of(document, outline)
    return Config.model_validate({**outline.running_root(), "warnings": warnings})


def _filled(
    document: Document, environment: Environment, names: tuple[str, ...], secrets: Secrets
) -> tuple[Substitution, Outline]:
    """Which secrets are needed follows from what runs, and that may follow from a secret: so in rounds."""
    while True:
        filled = substitute(document.root, environment, secrets)
        outline = Outline.of(filled.root, names)
        wanted = [reference for place, reference in filled.open if outline.needs(place)]
        if not wanted:
            return filled, outline
        for reference in wanted:
            secrets.look_up(reference)


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
