"""Files to records: formats, the form of a conversation, images."""
