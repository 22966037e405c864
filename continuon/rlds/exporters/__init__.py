"""Episodes in others' formats: what the target cannot hold is listed, never hidden."""
