"""Models: arms (encoder, backbone, head), training objectives, noise schedules and checkpoints."""
