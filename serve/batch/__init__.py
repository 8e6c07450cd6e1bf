"""Many videos: resumed, spread over a cluster."""
