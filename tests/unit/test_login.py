"""How a login becomes arguments of the connector, and what is said of keys that can't be used."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import UsageError
from snowmelt.sources.snowflake.login import Login, backoff, private_key

PASSPHRASE = "correct horse"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
DER = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
EC = ec.generate_private_key(ec.SECP256R1())
FORMATS = {"PKCS8": PrivateFormat.PKCS8, "PKCS1": PrivateFormat.TraditionalOpenSSL}


def pem(kind: str = "PKCS8", *, encrypted: bool = False, key: PrivateKeyTypes = KEY) -> str:
    protection = BestAvailableEncryption(PASSPHRASE.encode()) if encrypted else NoEncryption()
    return key.private_bytes(Encoding.PEM, FORMATS[kind], protection).decode()


def body(text: str) -> str:
    return "".join(line for line in text.splitlines() if not line.startswith("-----"))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "Windows lines": lambda text: text.replace("\n", "\r\n"),
    "escapes": lambda text: text.replace("\n", "\\n"),
    "Windows escapes": lambda text: text.replace("\n", "\\r\\n"),
    "one line": lambda text: text.replace("\n", " "),
    "indented": lambda text: "\n".join(f"    {line}" for line in text.splitlines()),
    "notes around it": lambda text: f"Bag Attributes: x\n{text}\n# the end\n",
}


def login(**changes: Any) -> Login:
    return Login(**{"account": "xy12345", "user": "SVC", **changes})


def refused(text: str, passphrase: str | None = None) -> UsageError:
    """The error for a key, which holds none of its text."""
    with pytest.raises(UsageError) as caught:
        login(rsa_key=text, passphrase=passphrase).arguments()
    error = caught.value
    assert error.remedy
    told = f"{error} {error!r} {error.__dict__} {error.__cause__}"
    secrets = "" if Path(text[:99]).suffix == ".p8" else text
    lines = [line for line in re.split(r"\s|\\n", secrets) if len(line) > 30]
    assert not any(line in told for line in lines)
    assert not passphrase or passphrase not in told
    return error


# Keys


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_in_every_spelling(kind: str, encrypted: bool, spelling: str) -> None:
    text = SPELLINGS[spelling](pem(kind, encrypted=encrypted))
    assert ("Proc-Type" in text) is (kind == "PKCS1" and encrypted)
    assert private_key(text, PASSPHRASE if encrypted else None) == DER


@pytest.mark.parametrize(
    ("text", "passphrase"),
    [
        (body(pem()), None),
        (body(pem("PKCS1")), None),
        (body(pem(encrypted=True)), PASSPHRASE),
        (pem().split("-----")[2], None),
        (pem().split("-----")[2].replace("\n", "\\n"), None),
    ],
)
def test_a_key_without_its_first_and_last_line(text: str, passphrase: str | None) -> None:
    assert private_key(text, passphrase) == DER


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_key_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, encrypted: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "rsa_key").write_text(pem(kind, encrypted=encrypted), "utf-8-sig")
    for path in (tmp_path / "keys" / "rsa_key", "~/keys/rsa_key", " keys/rsa_key\n"):
        assert private_key(str(path), PASSPHRASE if encrypted else None) == DER


def test_a_passphrase_that_the_key_does_not_need_is_left_aside() -> None:
    assert private_key(pem(), PASSPHRASE) == DER


@given(st.lists(st.sampled_from(["\n", " ", "\r\n", "\\n", "\t"]), min_size=40, max_size=40))
def test_any_blanks_may_stand_for_newlines(blanks: list[str]) -> None:
    parts = pem().split("\n")
    assert private_key("".join(map("".join, zip(parts, blanks, strict=False)))) == DER


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("passphrase", [None, ""])
def test_a_passphrase_that_is_missing(kind: str, passphrase: str | None) -> None:
    error = refused(pem(kind, encrypted=True), passphrase)
    assert error.what == "snowflake.rsa_key is encrypted, and no passphrase is given"


@pytest.mark.parametrize(
    "text", [pem(encrypted=True), pem("PKCS1", encrypted=True), body(pem(encrypted=True))]
)
def test_a_passphrase_that_is_wrong(text: str) -> None:
    error = refused(text, "wrong horse")
    assert error.what == "snowflake.passphrase does not open snowflake.rsa_key"


PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "text",
    [
        PUBLIC,
        body(PUBLIC),
        pem().replace("PRIVATE", "SECRET"),
        pem().split("-----END")[0],
        pem()[: len(pem()) // 2],
        pem()[:100] + "AAAA" + pem()[104:],
        body(pem())[:400],
        body(pem())[3:],
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
        "hunter2",
        "hunter2\0",
        "~nobody-of-that-name/key",
        "x" * 5000,
    ],
)
def test_what_is_no_key(text: str) -> None:
    error = refused(text)
    assert "snowflake.rsa_key is n" in error.what
    assert "hunter2" not in str(error)
    assert "PEM private key" in (error.remedy or "")


def test_a_key_that_is_no_rsa_key() -> None:
    assert "no RSA key" in refused(pem(key=EC)).what
    assert "openssl genrsa 2048" in (refused(pem(key=EC)).remedy or "")


def test_files_that_hold_no_key(tmp_path: Path) -> None:
    missing = tmp_path / "rsa_key.p8"
    assert refused(str(missing)).what == f"the file {missing} of snowflake.rsa_key is not there"
    missing.write_bytes(b"\xff\xfe")
    assert refused(str(missing)).what == f"the file {missing} of snowflake.rsa_key is no PEM text"
    missing.write_text(PUBLIC)
    assert refused(str(missing)).what == "snowflake.rsa_key is no private key"
    assert "nor a file to be read" in refused(str(tmp_path)).what


# Arguments


def test_key_pair() -> None:
    arguments = login(rsa_key=pem(encrypted=True), passphrase=PASSPHRASE).arguments()
    assert arguments["authenticator"] == "SNOWFLAKE_JWT"
    assert arguments["private_key"] == DER
    assert {"password", "token", "private_key_passphrase"}.isdisjoint(arguments)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"password": "p"}, {"authenticator": "SNOWFLAKE", "password": "p"}),
        ({"token": "t"}, {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": "t"}),
        (
            {"token": "t", "authenticator": "Programmatic_Access_Token"},
            {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": "t"},
        ),
        ({"token": "t", "authenticator": "OAuth"}, {"authenticator": "OAUTH", "token": "t"}),
    ],
)
def test_other_proofs(given: dict[str, str], expected: dict[str, str]) -> None:
    arguments = login(**given).arguments()
    names = ("authenticator", "password", "token", "private_key")
    assert {name: arguments[name] for name in names if name in arguments} == expected


def test_nothing_to_log_in_with() -> None:
    with pytest.raises(UsageError, match="nothing is given") as caught:
        login().arguments()
    assert caught.value.remedy == "give rsa_key, password or token"


def test_places_are_handed_on_where_they_are_set() -> None:
    places = {
        "warehouse": "WH", "role": "R", "database": "D", "schema": "S", "host": "localhost",
        "port": 8080, "protocol": "http",
    }  # fmt: skip
    arguments = login(password="p", **places).arguments()
    assert {name: arguments[name] for name in places} == places
    assert (arguments["account"], arguments["user"]) == ("xy12345", "SVC")
    assert set(places).isdisjoint(login(password="p").arguments())


def test_session() -> None:
    arguments = login(password="p", statement_timeout_seconds=60).arguments()
    assert arguments["session_parameters"] == {
        "TIMEZONE": "UTC",
        "STATEMENT_TIMEOUT_IN_SECONDS": 60,
        "CLIENT_PREFETCH_THREADS": 4,
        "CLIENT_RESULT_CHUNK_SIZE": 48,
        "QUERY_TAG": "snowmelt",
    }
    assert arguments["arrow_number_to_decimal"] is True
    assert (arguments["login_timeout"], arguments["network_timeout"]) == (60, 120)
    assert arguments["client_session_keep_alive"] is False


def test_no_secret_in_a_repr() -> None:
    secrets = {"rsa_key": "s3", "passphrase": "s3", "password": "s3", "token": "s3"}
    assert "s3" not in repr(login(**secrets))


@pytest.mark.parametrize("proof", [{"rsa_key": pem()}, {"password": "p"}, {"token": "t"}])
def test_the_connector_knows_every_argument_and_its_type(proof: dict[str, str]) -> None:
    from snowflake.connector.connection import APPLICATION_RE, DEFAULT_CONFIGURATION

    everything = dict.fromkeys(("warehouse", "role", "database", "schema", "host"), "x")
    arguments = login(**proof, **everything, port=1, protocol="http").arguments()
    for name, value in arguments.items():
        assert isinstance(value, DEFAULT_CONFIGURATION[name][1]), name
    assert APPLICATION_RE.match(str(arguments["application"]))


def test_the_connector_signs_with_the_key() -> None:
    from snowflake.connector.auth.keypair import AuthByKeyPair

    key: Any = login(rsa_key=pem("PKCS1")).arguments()["private_key"]
    token = AuthByKeyPair(private_key=key).prepare(account="xy12345", user="SVC")
    assert jwt.decode(token, KEY.public_key(), algorithms=["RS256"])["sub"] == "XY12345.SVC"


def test_the_connector_sends_the_prefetch_threads() -> None:
    """The session parameter alone is overwritten with the connector's own default."""
    arguments = login(password="p").arguments()
    parameters: Any = arguments["session_parameters"]
    assert arguments["client_prefetch_threads"] == parameters["CLIENT_PREFETCH_THREADS"]


# Backoff


def test_ten_tries_end_within_25_seconds() -> None:
    policy = login(password="p").arguments()["backoff_policy"]
    assert policy is backoff
    assert isinstance(backoff(), Iterator)
    for _ in range(200):
        pauses = list(itertools.islice(backoff(), 9))
        assert pauses[0] <= 0.125
        assert max(pauses) <= 5
        assert 13 < sum(pauses) < 23


def test_backoff_has_jitter() -> None:
    assert len({next(backoff()) for _ in range(20)}) > 1


def test_the_connector_is_not_imported_for_a_login() -> None:
    code = (
        "import sys, snowmelt.sources.snowflake.login\n"
        "assert 'snowflake' not in sys.modules, 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_key_is_unencrypted_pkcs8() -> None:
    found = load_der_private_key(private_key(pem("PKCS1", encrypted=True), PASSPHRASE), None)
    assert isinstance(found, rsa.RSAPrivateKey)
    assert found.private_numbers() == KEY.private_numbers()
