"""Learn from images: data, transforms, training, models, measurement; draws nothing and writes no prose."""
