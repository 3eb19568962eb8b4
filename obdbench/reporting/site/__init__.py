"""The leaderboard site: its data, its templates and its file."""
