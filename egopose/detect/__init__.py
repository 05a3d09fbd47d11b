"""2D keypoints from video: backends behind one protocol, one tracker per view."""
