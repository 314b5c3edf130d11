"""One Prefect task per stage: each loads references, calls the core and stores references."""
