"""Settings, presets, and what may change in them when a run goes on."""
