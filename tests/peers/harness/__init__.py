"""What drives the real peers and judges what they, the wire and the spans say."""
