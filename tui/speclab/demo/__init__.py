"""Two small, honest systems to play with, offline: a CRM that is read and a billing system that is written."""
