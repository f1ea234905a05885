"""What the RFCs say: parsing, framing, writing. Pure: bytes in, values out."""
