"""Many runs: what `speclab up` does, until it is stopped."""
