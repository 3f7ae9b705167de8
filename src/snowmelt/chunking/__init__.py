"""From a key to chunks: values and pure decisions."""
