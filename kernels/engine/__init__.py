"""What the engines of all devices share."""
