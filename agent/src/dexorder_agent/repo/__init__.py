"""The user's git repository on the volume."""
