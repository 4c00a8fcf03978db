"""Products in the admin. The matching package registers them, since its pages add the matches."""
