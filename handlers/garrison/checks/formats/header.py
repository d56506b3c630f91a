"""What is known of an image before it is decoded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Header:
    """Size in pixels as stored (width, height), frames, EXIF orientation, and a file with the first picture only."""

    size: tuple[int, int]
    content: bytes
    frames: int = 1
    orientation: int = 1

    @property
    def oriented_size(self) -> tuple[int, int]:
        """Width and height as shown: orientations 5 to 8 swap them."""
        width, height = self.size
        return (height, width) if self.orientation >= 5 else (width, height)
