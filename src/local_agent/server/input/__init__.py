"""JSON that comes in: taken apart, and refused where it could not go out again."""
