"""The network: rays, encoders, temporal transformer, heads, losses, and the files its weights live in."""
