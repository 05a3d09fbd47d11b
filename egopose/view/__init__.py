"""Results to look at: a 3D page, plots, an overlay video, small reports. Nothing heavy is imported before it is used."""
