"""The function, by the name that deployed functions of the running system have."""

from snowmelt.aws.lambda_handler import handler

lambda_handler = handler

__all__ = ["handler", "lambda_handler"]
