"""`evflex demo`: plans a day of charging on a server of its own and shows the saving."""
