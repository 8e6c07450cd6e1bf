"""What many devices gathered: added up, and compared with what the model was made for."""
