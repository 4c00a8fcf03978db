"""The image, compose files and scripts of deploy/, as far as they run without a container engine."""
