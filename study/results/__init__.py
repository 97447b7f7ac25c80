"""What a study leaves on storage: tables, files, arms, provenance, status."""
