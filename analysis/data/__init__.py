"""Study folders as pandas frames: reading, pooling of studies, provenance."""
