"""Small models and data, stand-ins for services, and what the suite needs for itself."""
