"""What a worker does before and after a model: images to pixels, scores to the best few."""
