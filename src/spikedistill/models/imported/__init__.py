"""Networks and weights from elsewhere: checkpoint files, how they fit our networks, models of other libraries."""
