"""The public functions inside a user's own `@njit` code."""
