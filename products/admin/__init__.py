"""Products in the admin. ``matching.admin`` registers them, because their pages also show matches."""
