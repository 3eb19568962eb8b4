"""Result records and the folders that hold them."""
