"""What is read from AWS: secrets, parameters, and objects of S3. The one place that knows boto3.

Nothing is kept: a client is opened for one question and closed after it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from snowmelt.errors import RetriableError, UsageError

_MISSING = (
    "ResourceNotFoundException",
    "ParameterNotFound",
    "ParameterVersionNotFound",
    "NoSuchKey",
    "NoSuchBucket",
    "404",
)
_DENIED = ("AccessDeniedException", "AccessDenied", "403")
_KEYS = ("DecryptionFailure", "InvalidKeyId", "KMSAccessDeniedException")
_LOGIN = (
    "ExpiredTokenException",
    "ExpiredToken",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
)
_BUSY = (
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "TooManyUpdates",
    "SlowDown",
    "RequestLimitExceeded",
    "RequestTimeout",
)
_ATTEMPTS, _CONNECT_SECONDS, _READ_SECONDS = 4, 5, 20


class Aws:
    """Secrets Manager, SSM and S3, with the credentials and the region that boto3 finds.

    Each question raises UsageError for what somebody has to mend first, and RetriableError for what passes.
    No message has a value.
    """

    def secret(self, name: str) -> str:
        """The current text of a secret, named by its name or ARN; needs secretsmanager:GetSecretValue."""
        what = f"the secret {name}"
        with _asking("secretsmanager", what, "secretsmanager:GetSecretValue", name) as client:
            found = client.get_secret_value(SecretId=name)
        if "SecretString" not in found:
            raise UsageError(f"{what} is binary, no text", remedy="store it as text")
        return str(found["SecretString"])

    def parameter(self, name: str) -> str:
        """A parameter of SSM, decrypted if it is a SecureString; needs ssm:GetParameter."""
        with _asking("ssm", f"the parameter {name}", "ssm:GetParameter", name) as client:
            return str(client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])

    def s3_object(self, bucket: str, key: str) -> bytes:
        """The content of an object; needs s3:GetObject."""
        # Who may not list a bucket is refused what is not there, too.
        permission = "s3:GetObject and s3:ListBucket"
        with (
            _asking("s3", f"s3://{bucket}/{key}", permission) as client,
            closing(client.get_object(Bucket=bucket, Key=key)["Body"]) as body,
        ):
            return bytes(body.read())


@contextmanager
def _asking(service: str, what: str, permission: str, name: str = "") -> Iterator[Any]:
    """A client for one question, in the region of the ARN if the name is one, else in AWS_REGION.

    boto3 by itself looks at AWS_DEFAULT_REGION and the profile alone.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise UsageError(
            f"{error.name} is not installed, which reading from AWS needs",
            remedy="pip install 'snowmelt[aws]'",
        ) from None
    parts = name.split(":")
    region = parts[3] if len(parts) > 5 and parts[0] == "arn" else os.environ.get("AWS_REGION")
    with _mute("botocore"), _told(what, permission):
        # A session of its own: the default one of boto3 would stay with the process.
        client = boto3.session.Session().client(
            service,
            region_name=region or None,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"max_attempts": _ATTEMPTS, "mode": "standard"},
            ),
        )
        with closing(client):
            yield client


@contextmanager
def _mute(name: str) -> Iterator[None]:
    """At DEBUG botocore logs whole answers, secrets and all."""
    logger = logging.getLogger(name)
    before = logger.level
    if logger.getEffectiveLevel() < logging.INFO:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _told(what: str, permission: str) -> Iterator[None]:
    """Errors of botocore in our words."""
    from botocore import exceptions as of

    try:
        yield
    except of.ClientError as error:
        raise _answered(error.response, what, permission) from None
    except (of.NoCredentialsError, of.CredentialRetrievalError, of.PartialCredentialsError):
        raise UsageError(
            f"{what} can't be asked for: there are no AWS credentials",
            remedy="run with a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID",
        ) from None
    except of.NoRegionError:
        raise UsageError(
            f"{what} can't be asked for: no AWS region is set", remedy="set AWS_REGION"
        ) from None
    except (of.HTTPClientError, of.ConnectionError) as error:
        raise RetriableError(
            f"{what} can't be asked for: AWS is not reached ({type(error).__name__})",
            remedy="check the way to AWS: a function in a VPC needs a NAT gateway or an endpoint",
        ) from None
    except of.BotoCoreError as error:
        raise UsageError(
            f"{what} can't be asked for: {type(error).__name__}",
            remedy="check the name, and the AWS profile and region",
        ) from None


def _answered(response: Any, what: str, permission: str) -> UsageError | RetriableError:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _BUSY or status >= 500:
        return RetriableError(f"{what} was not answered for now ({code})", remedy="try again")
    if code in _MISSING:
        return UsageError(
            f"{what} is not there", remedy="create it, or correct its name or the AWS region"
        )
    text = str(response.get("Error", {}).get("Message", ""))
    if code in _KEYS or (code in _DENIED and "KMS" in text):
        return UsageError(
            f"{what} can't be decrypted ({code})", remedy="allow kms:Decrypt with its key"
        )
    if code in _DENIED:
        return UsageError(f"{what} may not be read ({code})", remedy=f"allow {permission} on it")
    if code in _LOGIN:
        return UsageError(
            f"{what} can't be asked for: the AWS credentials are not accepted ({code})",
            remedy="log in again, or correct them",
        )
    return UsageError(f"{what} can't be read ({code})", remedy="look it up in AWS by that code")
