"""Model packages: manifest, hashes, registry. No torch."""
