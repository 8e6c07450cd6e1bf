"""What the page shows: pictures, videos, and what a file says about itself."""
