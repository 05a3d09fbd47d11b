"""Training: motion and rendered clips, augmentation, the loop."""
