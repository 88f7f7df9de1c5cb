"""Finding faces, cutting them out upright, and judging whether they can be judged."""
