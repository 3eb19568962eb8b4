"""What a run consists of: suites, presets and trial specifications."""
