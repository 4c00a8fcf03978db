"""What the embedding workers and the device are doing."""
