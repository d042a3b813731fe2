"""Side information of any kind of data: readings by time, texts of places, notes and documents."""
