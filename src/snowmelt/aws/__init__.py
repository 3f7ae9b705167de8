"""On AWS: the Lambda function, its logs and metrics, and what it reads of a configuration there."""
