"""Results to look at: a 3D page, plots, an overlay video, small reports; heavy packages load at first use."""
