"""Everything that is read or kept: client tables, the artifact store, manifests, records; the emoji pack and the base model."""
