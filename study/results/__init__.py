"""What a study leaves on storage: columns, files, provenance."""
