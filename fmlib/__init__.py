"""Learn from images: data, transforms, training, models, measurement.

Draws nothing and writes no prose.
"""
