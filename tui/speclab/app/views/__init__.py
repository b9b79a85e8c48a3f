"""The three views: Specs, Mapping and Monitor."""
