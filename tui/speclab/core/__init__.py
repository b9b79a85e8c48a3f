"""What every layer builds on: time, errors, outcomes, paths, JSON, plugins and locks."""
