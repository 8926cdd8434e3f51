"""What several formats share: heads as other programs count them, arrows, and what others have no place for."""
